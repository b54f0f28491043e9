#!/bin/sh
# A little desktop in a container: an X server that speaks VNC, a window manager and a few programs, and noVNC for
# browsers, over TLS on port 8443.
#
# DISPLAY is the number of the display, as the post has it (0). VNC_PASSWORD is what people are asked for; without it
# nobody is asked anything, which is for demonstrations. TLS_CERT and TLS_KEY name a certificate and its key; without
# them one is made that nobody knows.
set -eu

number=${DISPLAY:-0}
number=${number#:}
export DISPLAY=":$number" HOME=/tmp/desktop
mkdir -p "$HOME" /tmp/.X11-unix
chmod 1777 /tmp/.X11-unix
cd "$HOME"

trap 'kill $(jobs -p) 2>/dev/null; exit 143' TERM INT

if [ -z "${TLS_CERT:-}" ]; then
    TLS_CERT=$HOME/cert.pem TLS_KEY=$HOME/key.pem
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=desktop \
        -keyout "$TLS_KEY" -out "$TLS_CERT" 2>/dev/null
fi

if [ -n "${VNC_PASSWORD:-}" ]; then
    printf '%s\n' "$VNC_PASSWORD" | tigervncpasswd -f >"$HOME/passwd"
    chmod 600 "$HOME/passwd"
    set -- -SecurityTypes VncAuth -PasswordFile "$HOME/passwd"
    unset VNC_PASSWORD
else
    set -- -SecurityTypes None
fi
Xtigervnc "$DISPLAY" -geometry 1024x640 -depth 24 -localhost -rfbport 5900 -desktop "Job ${AWS_BATCH_JOB_ID:-}" "$@" &

tries=0
until [ -e "/tmp/.X11-unix/X$number" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || { echo "the X server does not start" >&2; exit 1; }
    sleep 0.1
done

jwm &
xclock -geometry 140x140-20+20 &
xterm -geometry 92x24+40+40 -T "Batchyard" -hold -e sh -c '
    echo "This desktop is a job."
    echo
    env | grep ^AWS_BATCH | sort
    echo
    ls -d /dev/nvidia* 2>/dev/null || echo "no GPU here"
    exec sh' &

echo "the desktop listens on port 8443"
python3 -m websockify --ssl-only --cert "$TLS_CERT" --key "$TLS_KEY" --web /usr/share/novnc 8443 127.0.0.1:5900 &
wait $!

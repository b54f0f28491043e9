#!/bin/bash
# What a node does when it is powered on. It runs as process 1 of the node's own pid, mount,
# network and uts namespaces, so killing it kills everything on the node and takes the mounts,
# devices and iptables rules along, as pulling the plug does. Disks (var/, log/) stay.
#
# Set by the caller: NAME, ADDRESS, GATEWAY, SERVICES, CPUS, NODE_DIR, PKI_DIR, TOOLS_DIR,
# TOOLS_PATH, PEERS ("pod-range=node-address ...").
set -euo pipefail

hostname "$NAME"
# Volumes that pods share with the node need shared mounts; nothing of it reaches the machine.
mount --make-rshared /

# A fresh /run, from which everything of the node is reachable under a short, fixed name.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/batchyard/{node,pki,tools} /run/lock
mount --bind "$NODE_DIR" /run/batchyard/node
mount --bind "$PKI_DIR" /run/batchyard/pki
mount --bind "$TOOLS_DIR" /run/batchyard/tools
export PATH="$TOOLS_PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A /var of its own: kubelets that share /var/log/pods delete each other's logs.
mkdir -p /run/batchyard/node/var/{lib/kubelet,lib/containerd,log/pods,log/containers,tmp}
ln -sfn /run /run/batchyard/node/var/run
mount --bind /run/batchyard/node/var /var

# As many CPUs as its instance type has: the kubelet counts these folders. They are empty, since
# a kubelet that knows the topology would ask for a cpuset of CPUs that do not exist. Containers
# get a /sys of their own and see the machine's real CPUs.
mount -t tmpfs tmpfs /sys/devices/system/node
mount -t tmpfs tmpfs /sys/devices/system/cpu
for ((cpu = 0; cpu < CPUS; cpu++)); do mkdir "/sys/devices/system/cpu/cpu$cpu"; done

# The kubelet wants these kernel settings and would change the machine's; it finds files that
# have them already.
mkdir /run/sysctl
while read -r setting value; do
    file="/run/sysctl/${setting//\//-}"
    echo "$value" >"$file"
    mount --bind "$file" "/proc/sys/$setting"
done <<'SETTINGS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS

# The cable is plugged in from outside. There is no default route: nothing leaves the machine.
ip link set lo up
until [[ -e /proc/sys/net/ipv4/conf/eth0 ]]; do sleep 0.05; done
ip addr add "$ADDRESS/24" dev eth0
ip link set eth0 up
# Connections to services are redirected by kube-proxy's rules, but only if there is a route.
ip route add "$SERVICES" via "$GATEWAY"
for peer in $PEERS; do
    ip route add "${peer%%=*}" via "${peer##*=}"
done
echo 1 >/proc/sys/net/ipv4/ip_forward
# Refuse at once, every time, what a pod asks of an address that is not there.
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit

# Runs a service and starts it again when it ends, as an init system would.
keep() {
    local name=$1
    shift
    while true; do
        "$@" >>"/run/batchyard/node/log/$name.log" 2>&1 || true
        echo "$name ended; starting it again" >>"/run/batchyard/node/log/$name.log"
        sleep 1
    done &
}

etc=/run/batchyard/node/etc
keep containerd containerd --config $etc/containerd.toml
until [[ -S /run/containerd/containerd.sock ]]; do sleep 0.05; done
keep kubelet kubernetes kubelet --config=$etc/kubelet.json --kubeconfig="/run/batchyard/pki/$NAME.kubeconfig" \
    --hostname-override="$NAME" --node-ip="$ADDRESS" --node-labels="$LABELS"
keep kube-proxy kubernetes kube-proxy --config=$etc/kube-proxy.json --hostname-override="$NAME"
wait

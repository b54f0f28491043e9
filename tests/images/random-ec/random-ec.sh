#!/bin/sh
# Ends with an exit code from 0 to 3. By chance, unless RANDOM_EC lists the codes of the
# attempts ("1,2,0": the third attempt succeeds; the last code is also that of later attempts).
attempt=${AWS_BATCH_JOB_ATTEMPT:-1}
if [ -n "${RANDOM_EC:-}" ]; then
    code=$(echo "$RANDOM_EC" | tr ',' '\n' | head -n "$attempt" | tail -n 1)
else
    code=$(($(od -An -N1 -tu1 /dev/urandom) % 4))
fi
echo "attempt $attempt ends with exit code $code"
exit "$code"

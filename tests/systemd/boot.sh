# Boots a machine and keeps it until standard input ends, as it does however the test ends: boot.sh ROOT WORK INIT. Runs
# in a mount namespace of its own. The root is only read: what the machine writes is in memory. WORK/pid gets the process
# id of the machine's first process; the folder WORK, which only this namespace sees filled, is removed at the end.
set -eu
root=$1 work=$2 init=$3
# A control group of its own, or the machine's services would lie among this host's.
group=$work/cgroup/keyward-test-$$
clean() {
    cd /
    find "$group" -depth -type d -exec rmdir {} + || true
    umount --lazy "$work" || true
    rmdir "$work"
}
trap 'clean 2>/dev/null' EXIT
mount -t tmpfs -o mode=0755 tmpfs "$work"
cd "$work"
mkdir upper overlay root cgroup
mount -t overlay -o "lowerdir=$root,upperdir=upper,workdir=overlay" overlay root
mount -t cgroup2 cgroup2 cgroup
mkdir "$group"
exec 3<&0
cat <&3 >/dev/null &
(
    exec 3<&-
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child=KILL bash "$init"
) &
machine=$!
wait -n || true
# With its first process all others of the machine end, and all its mounts go.
if read -r pid <pid; then kill -KILL "$pid" || true; fi
wait "$machine" || true

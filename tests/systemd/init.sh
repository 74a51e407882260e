# The first process of the machine, in namespaces of its own, until it becomes systemd.
set -eu
read -r pid _ </proc/self/stat
echo "$pid" >pid
cd root
mount -t proc -o nosuid,nodev,noexec proc proc
# Settings of the kernel are not the machine's to change.
for path in proc/sys proc/sysrq-trigger; do
    if ! [[ -e $path ]]; then continue; fi
    mount --bind "$path" "$path"
    mount -o remount,bind,ro "$path"
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755,nosuid tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 0666 "dev/${node%:*}" c 1 "${node#*:}"; done
mknod -m 0666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir old
pivot_root . old
cd /
umount -l old
rmdir old
# Credentials reach a service through a mount that is handed on.
mount --make-rshared /
# Not even root in the machine may set this host's clock, load modules, or read its log and its memory.
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog /lib/systemd/systemd

"""Tries what a service that was taken over might try, and prints a line for each: its name, then "done" or why not.
probe.py FOLDER PID: a folder that this user may write, and another process of this user."""
import ctypes, errno, mmap, os, platform, socket, stat, struct, sys

LIBC = ctypes.CDLL(None, use_errno=True)
FOLDER, OTHER = sys.argv[1], sys.argv[2]
INIT_MODULE, PERSONALITY, KEXEC_LOAD, BPF, KEYCTL, IO_URING_SETUP = {
    "x86_64": (175, 135, 246, 321, 250, 425), "aarch64": (105, 92, 104, 280, 219, 425)}[platform.machine()]
CLONE_NEWUSER, CLONE_NEWNS, PTRACE_ATTACH, PTRACE_DETACH, FIFO = 0x10000000, 0x20000, 16, 17, 1

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def call(number, *arguments):
    checked(LIBC.syscall(number, *(ctypes.c_long(argument) for argument in arguments)))

def made_setuid():
    path = os.path.join(FOLDER, "setuid")
    with open(path, "w"):
        os.chmod(path, 0o4755)

def write_then_execute():
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        checked(LIBC.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC))

def attach():
    checked(LIBC.ptrace(PTRACE_ATTACH, int(OTHER), None, None))
    os.waitpid(int(OTHER), 0x40000000)
    LIBC.ptrace(PTRACE_DETACH, int(OTHER), None, None)

def in_child(what):
    """What can't be undone is done by a process that ends."""
    child = os.fork()
    if child == 0:
        try:
            what()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code) if code > 0 else f"signal {-code}")

def own_program(folder):
    path = os.path.join(folder, f"program{os.getpid()}")
    with open(path, "w") as file:
        file.write("#!/bin/sh\n")
        os.chmod(path, 0o700)
    os.execv(path, [path])

def mount():
    checked(LIBC.mount(b"none", FOLDER.encode(), b"tmpfs", 0, None))

PROBES = {
    "socket inet": lambda: socket.socket(socket.AF_INET),
    "socket inet6": lambda: socket.socket(socket.AF_INET6),
    "socket netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "socket packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "write /etc": lambda: open("/etc/open/file", "w"),
    "write /usr": lambda: open("/usr/open/file", "w"),
    "write /var": lambda: open("/var/open/file", "w"),
    "read /root": lambda: open("/root/open/file"),
    "read /home": lambda: open("/home/other/file"),
    "read /tmp": lambda: open("/tmp/other"),
    "read pepper": lambda: open("/etc/keyward/pepper"),
    "read shadow": lambda: open("/etc/shadow"),
    "read /proc of another user": lambda: open("/proc/1/status"),
    "read kernel settings": lambda: open("/proc/sys/kernel/ostype"),
    "write kernel settings": lambda: open("/proc/sys/kernel/core_pattern", "w"),
    "write control groups": lambda: os.mkdir("/sys/fs/cgroup/probe"),
    "memory W+X": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "memory W then X": write_then_execute,
    "ptrace": attach,
    "memory of another user's process": lambda: open("/proc/1/mem", "rb+"),
    "mount": mount,
    "mount in a user namespace": lambda: in_child(lambda: (checked(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS)), mount())),
    "user namespace": lambda: in_child(lambda: checked(LIBC.unshare(CLONE_NEWUSER))),
    "module": lambda: call(INIT_MODULE, 0, 0, 0),
    "kexec": lambda: call(KEXEC_LOAD, 0, 0, 0, 0),
    "clock": lambda: checked(LIBC.settimeofday(None, struct.pack("ii", 0, 0))),
    "host name": lambda: socket.sethostname("probe"),
    "device node": lambda: os.mknod(os.path.join(FOLDER, "disk"), 0o600 | stat.S_IFBLK, os.makedev(254, 0)),
    "raw device": lambda: open("/dev/open", "rb"),
    "setuid file": made_setuid,
    "another user": lambda: os.setuid(0),
    "real time": lambda: os.sched_setscheduler(0, FIFO, os.sched_param(1)),
    "personality": lambda: call(PERSONALITY, 0x0040000),
    "bpf": lambda: call(BPF, 0, 0, 0),
    "another program": lambda: in_child(lambda: os.execv("/usr/bin/true", ["true"])),
    "own program in own folder": lambda: in_child(lambda: own_program(FOLDER)),
    "own program in /tmp": lambda: in_child(lambda: own_program("/tmp")),
    "own program in /var/tmp": lambda: in_child(lambda: own_program("/var/tmp")),
    "own program in /dev/shm": lambda: in_child(lambda: own_program("/dev/shm")),
    "own program in /run/keyward": lambda: in_child(lambda: own_program("/run/keyward")),
    "io_uring": lambda: call(IO_URING_SETUP, 1, ctypes.addressof(ctypes.create_string_buffer(120))),
    "keyring": lambda: call(KEYCTL, 0, -3, 0),
    "write own folder": lambda: open(os.path.join(FOLDER, "file"), "w"),
}

for name, probe in PROBES.items():
    try:
        probe()
        print(f"{name}: done")
    except OSError as error:
        print(f"{name}: {errno.errorcode[error.errno]}")

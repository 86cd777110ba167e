"""A folder passed through FUSE, which fails as it is told: what stands for a share in the tests.

    python fault-file-system.py <folder> <mount point> <control socket>

The control socket takes one JSON document per line, the list of faults that hold from now on, and answers "ok". A fault names the
operations that it strikes ("all", "reads", "writes" or FUSE's own names), and what happens: "hang" (until another list comes; the operation
then goes on as if nothing had been), "errno" or "delay_ms". "path" strikes only what has this text in its path.
"""

import ctypes
import errno
import functools
import json
import os
import socket
import sys
import threading
import time

# Of two versions it would take the older one.
os.environ['FUSE_LIBRARY_PATH'] = 'libfuse3.so.3'
import mfusepy  # noqa: E402

READS = {'getattr', 'open', 'opendir', 'read', 'readdir', 'readlink', 'statfs'}
WRITES = {
    'write', 'create', 'mkdir', 'unlink', 'rmdir', 'rename', 'link', 'symlink', 'truncate', 'chmod', 'chown', 'utimens',
    'fallocate', 'flush', 'fsync', 'fsyncdir',
}

libc = ctypes.CDLL(None, use_errno=True)


class Faults:
    def __init__(self):
        self.changed = threading.Condition()
        self.faults = []

    def set(self, faults):
        with self.changed:
            self.faults = faults
            self.changed.notify_all()

    def strike(self, operation, path):
        with self.changed:
            fault = self.fault_of(operation, path)
            while fault and fault.get('hang'):
                self.changed.wait()
                fault = self.fault_of(operation, path)
        if not fault:
            return
        time.sleep(fault.get('delay_ms', 0) / 1000)
        if 'errno' in fault:
            raise OSError(getattr(errno, fault['errno']), 'as told')

    def fault_of(self, operation, path):
        return next((fault for fault in self.faults if strikes(fault, operation, path)), None)


def strikes(fault, operation, path):
    named = fault.get('operations', ['all'])
    groups = ('all',) + (('reads',) if operation in READS else ()) + (('writes',) if operation in WRITES else ())
    return (operation in named or any(group in named for group in groups)) and fault.get('path', '') in path


class Passing(mfusepy.Operations):
    use_ns = True

    def __init__(self, root):
        self.root = root

    def real(self, path):
        return self.root + path

    def getattr(self, path, fh=None):
        found = os.lstat(self.real(path)) if fh is None else os.fstat(fh)
        attributes = {name: getattr(found, name) for name in (
            'st_mode', 'st_nlink', 'st_uid', 'st_gid', 'st_rdev', 'st_size', 'st_blksize', 'st_blocks', 'st_ino')}
        return attributes | {f'st_{name}': getattr(found, f'st_{name}_ns') for name in ('atime', 'mtime', 'ctime')}

    def readlink(self, path):
        return os.readlink(self.real(path))

    def mkdir(self, path, mode):
        return os.mkdir(self.real(path), mode)

    def unlink(self, path):
        return os.unlink(self.real(path))

    def rmdir(self, path):
        return os.rmdir(self.real(path))

    def symlink(self, target, source):
        return os.symlink(source, self.real(target))

    def rename(self, old, new):
        return os.rename(self.real(old), self.real(new))

    def link(self, target, source):
        return os.link(self.real(source), self.real(target))

    def chmod(self, path, mode):
        return os.chmod(self.real(path), mode)

    def chown(self, path, uid, gid):
        return os.chown(self.real(path), uid, gid, follow_symlinks=False)

    def truncate(self, path, length, fh=None):
        return os.truncate(self.real(path) if fh is None else fh, length)

    # Data goes through buffers of ours, which are not aligned; and O_APPEND would make a place of its own for each write.
    def open(self, path, flags):
        return os.open(self.real(path), flags & ~(os.O_DIRECT | os.O_APPEND))

    def create(self, path, mode, fi=None):
        return os.open(self.real(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def statfs(self, path):
        found = os.statvfs(self.real(path))
        return {name: getattr(found, name) for name in (
            'f_bsize', 'f_frsize', 'f_blocks', 'f_bfree', 'f_bavail', 'f_files', 'f_ffree', 'f_favail', 'f_namemax')}

    def flush(self, path, fh):
        return 0

    def release(self, path, fh):
        return os.close(fh)

    def fsync(self, path, datasync, fh):
        return os.fdatasync(fh) if datasync else os.fsync(fh)

    def fsyncdir(self, path, datasync, fh):
        return 0

    def fallocate(self, path, mode, offset, size, fh):
        if libc.fallocate(ctypes.c_int(fh), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(size)) != 0:
            raise OSError(ctypes.get_errno(), 'fallocate')
        return 0

    def opendir(self, path):
        return os.open(self.real(path), os.O_RDONLY | os.O_DIRECTORY)

    def readdir(self, path, fh):
        with os.scandir(fh) as entries:
            inodes = {entry.name: {'st_ino': entry.inode(), 'st_mode': entry.stat(follow_symlinks=False).st_mode} for entry in entries}
        return ['.', '..', *((name, attributes, 0) for name, attributes in inodes.items())]

    def releasedir(self, path, fh):
        return os.close(fh)

    def utimens(self, path, times=None):
        return os.utime(self.real(path), ns=times)


def with_faults(operations, faults):
    """Every operation first meets the faults, all but the closing of a file, which no server is asked for."""
    def struck(name, method):
        @functools.wraps(method)
        def run(path, *more):
            faults.strike(name, path)
            return method(path, *more)
        return run

    for name in READS | WRITES:
        setattr(operations, name, struck(name, getattr(operations, name)))
    return operations


def serve_control(path, faults):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def serve(connection):
        with connection, connection.makefile('rw') as lines:
            for line in lines:
                faults.set(json.loads(line))
                lines.write('ok\n')
                lines.flush()

    def accept():
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main():
    folder, mount_point, control = sys.argv[1:]
    faults = Faults()
    serve_control(control, faults)
    # The kernel remembers nothing, so that everything is asked of us; and what hangs leaves threads for what does not. What is removed while it is open
    # is renamed until then, as on NFS.
    mfusepy.FUSE(
        with_faults(Passing(folder), faults), mount_point, foreground=True, allow_other=True, default_permissions=True,
        direct_io=True, attr_timeout=0, entry_timeout=0, negative_timeout=0, max_threads=64,
        use_ino=True, fsname=mount_point, subtype='holdfast-test',
    )


main()

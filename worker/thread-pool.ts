/**
 * To be imported before anything else. Node's file system calls share four threads by default; storage that hangs takes one for each
 * call, and then nothing in the process can read a file any more, not even to stop in order. Read when the first call is made.
 */
process.env['UV_THREADPOOL_SIZE'] ??= '32'

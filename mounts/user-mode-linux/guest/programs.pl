# Starts what the reader needs: kernel modules, mounts and programs, each with a time limit, because what they look at may be damaged.
use strict;
use warnings;

# x86_64, as User-Mode Linux is. From the kernel's asm/unistd_64.h, linux/mount.h and asm-generic/errno.h.
use constant { SYS_MOUNT => 165, SYS_EXIT_GROUP => 231, SYS_FINIT_MODULE => 313, MS_OPTIONS => 1 | 2 | 4 | 8, ETIMEDOUT => 110 };

# In seconds: for one attempt, and for all of them together.
use constant { ATTEMPT_SECONDS => 8, ALL_SECONDS => 20 };
my $deadline = time + ALL_SECONDS;

# Whole seconds that the next attempt may take; 0 when all time is used up.
sub seconds_left {
  my $left = $deadline - time;
  return $left < 0 ? 0 : $left > ATTEMPT_SECONDS ? ATTEMPT_SECONDS : $left;
}

# Runs code in a process of its own, which is left behind when it does not answer in time. Returns its result, 0 to 255.
sub attempt {
  my ($action) = @_;
  my $seconds = seconds_left() or return ETIMEDOUT;
  my $pid = fork // return $! + 0;
  if ($pid == 0) {
    my $result = eval { $action->() };
    syscall(SYS_EXIT_GROUP, $result // 255);
  }
  my $status;
  eval {
    local $SIG{ALRM} = sub { die };
    alarm $seconds;
    waitpid $pid, 0;
    $status = $?;
    alarm 0;
  };
  alarm 0;
  if (!defined $status) { kill 'KILL', $pid; return ETIMEDOUT }
  return $status & 127 ? 255 : $status >> 8;
}

# Runs a program, what it says goes to the console. Returns its exit code; 0 is success.
sub run {
  my @command = @_;
  return attempt(sub {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>&', \*STDERR;
    exec { $command[0] } @command or return 127;
  });
}

# What a program prints, its complaints among it. As much as there is when it takes too long.
sub output_of {
  my @command = @_;
  my $seconds = seconds_left() or return '';
  my $pid = open(my $pipe, '-|') // return '';
  if ($pid == 0) {
    open STDIN, '<', '/dev/null';
    open STDERR, '>&', \*STDOUT;
    exec { $command[0] } @command or syscall(SYS_EXIT_GROUP, 127);
  }
  my $text = '';
  eval {
    local $SIG{ALRM} = sub { die };
    alarm $seconds;
    1 while sysread($pipe, $text, 65_536, length $text);
    alarm 0;
  };
  alarm 0;
  kill 'KILL', $pid;
  close $pipe;
  return $text;
}

# Mounts read-only. Returns the error number; 0 is success.
sub mount_device {
  my ($device, $folder, $kind, $options) = @_;
  return attempt(sub { syscall(SYS_MOUNT, $device, $folder, $kind, MS_OPTIONS, $options) == 0 ? 0 : $! + 0 });
}

my (%module_line, %loaded);

# Loads modules and what they need. One that is built in, or missing, is none of our worries: what needs it will fail.
sub load_modules {
  read_module_lines() unless %module_line;
  for my $name (@_) {
    next if $loaded{$name}++;
    my ($path, @needed) = @{ $module_line{$name} // next };
    load_file($_) for reverse(@needed), $path;
  }
}

sub read_module_lines {
  my $release = line_of('/proc/sys/kernel/osrelease');
  open(my $lines, '<', "/lib/modules/$release/modules.dep") or return;
  while (my $line = <$lines>) {
    my ($path, @needed) = map { "/lib/modules/$release/$_" } split /:?\s+/, $line;
    my ($name) = $path =~ m{([^/]+)\.ko\z} or next;
    $module_line{$name} = [$path, @needed];
  }
}

sub load_file {
  my ($path) = @_;
  return if $loaded{$path}++;
  open(my $file, '<', $path) or return;
  # An array that was not shut down is no reason to refuse reading it.
  my $parameters = $path =~ m{/md-mod\.ko\z} ? 'start_dirty_degraded=1' : '';
  syscall(SYS_FINIT_MODULE, fileno $file, $parameters, 0);
}

sub line_of {
  open(my $file, '<', $_[0]) or return '';
  my $line = <$file> // '';
  chomp $line;
  return $line;
}

1;

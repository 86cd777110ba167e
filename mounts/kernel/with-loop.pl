# Runs a program with a part of a file as a read-only loop device, which takes the place of the argument {}. The device is gone with its
# last user, from its first moment on: losetup can only ask for that afterwards.
#
# with-loop.pl <file> <offset> <bytes> <program> [argument …]
use strict;
use warnings;

# From the kernel's linux/loop.h.
use constant { LOOP_CTL_GET_FREE => 0x4c82, LOOP_CONFIGURE => 0x4c0a, READ_ONLY => 1, AUTOCLEAR => 4 };
use constant { O_RDONLY => 0, EBUSY => 16, ATTEMPTS => 64 };

# The program inherits the device, which so stays.
$^F = 255;

my ($path, $offset, $bytes, @program) = @ARGV;
my $loop = attach();
exec { $program[0] } map { $_ eq '{}' ? $loop : $_ } @program or die "$program[0]: $!\n";

sub attach {
  sysopen(my $file, $path, O_RDONLY) or die "$path: $!\n";
  sysopen(my $control, '/dev/loop-control', O_RDONLY) or die "/dev/loop-control: $!\n";
  for (1 .. ATTEMPTS) {
    my $number = ioctl($control, LOOP_CTL_GET_FREE, 0) or die "no free loop device: $!\n";
    my $device = '/dev/loop' . (0 + $number);
    sysopen(our $held, $device, O_RDONLY) or die "$device: $!\n";
    my $config = pack('L L Q5 L4 x160 x16 x64', fileno $file, 0, 0, 0, 0, $offset, $bytes, 0, 0, 0, READ_ONLY | AUTOCLEAR);
    if (ioctl($held, LOOP_CONFIGURE, $config)) {
      close $file;
      close $control;
      return $device;
    }
    # Somebody else was faster.
    $! == EBUSY or die "$device: $!\n";
    close $held;
  }
  die "no free loop device\n";
}

/**
 * A FUSE server that greets the kernel and then takes every request without an answer. With "late"
 * it has an answer for whoever looks for a hidden name: that there is none.
 */
export const hungServer = `
use strict; use warnings;
my ($where, $late) = @ARGV;
$^F = 255;
-e '/dev/fuse' or system('mknod', '/dev/fuse', 'c', 10, 229) == 0 or die;
open my $fuse, '+<', '/dev/fuse' or die "$!";
my $fd = fileno $fuse;
my $options = "fd=$fd,rootmode=40000,user_id=0,group_id=0,allow_other";
system('mount', '-i', '-t', 'fuse', '-o', $options, 'hung', $where) == 0 or die;
while (defined sysread $fuse, my $request, 1 << 20) {
    my ($length, $opcode, $unique) = unpack 'LLQ', $request;
    if ($opcode == 1 && $late && substr($request, 40) =~ /^[.]/) {
        syswrite $fuse, pack 'LlQ', 16, -2, $unique;
    }
    next if $opcode != 26;
    my $body = pack 'LLLLSSLLSSLL6', 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, (0) x 7;
    syswrite $fuse, pack('LlQ', 16 + length $body, 0, $unique) . $body;
}
`;

#!/usr/bin/perl
# A guest's use of memory, for the tests of limits. Every Debian has this much Perl.
#   memory-load.pl KIND PROCESSES MIB [DIRECTORY]
# KIND: steady   touches MIB once and holds it
#       busy     touches MIB again and again
#       saw      grows to MIB within a second, gives it back, and so on
#       growing  grows by a tenth of MIB a second up to MIB, then starts over
#       locked   holds MIB that cannot be swapped (mlock(2))
#       file     writes and reads a file of MIB in DIRECTORY (page cache; tmpfs where that is one)
#       dirty    writes a file of MIB in DIRECTORY over and over
# MIB is for all processes together. Prints "ready" when it first holds what it wants to.
use strict;
use warnings;
$| = 1;

my ($kind, $processes, $mib, $directory) = @ARGV;
my $chunk = 1 << 18;
my $chunks = int($mib * 4 / $processes);
$SIG{TERM} = sub { kill 'KILL', -getpgrp() };
setpgrp(0, 0);

sub pause { select undef, undef, undef, $_[0] }

sub grow {
    my ($held, $count, $pause) = @_;
    for (1 .. $count) {
        push @$held, 'x' x $chunk;
        pause($pause) if $pause;
    }
}

sub report { syswrite STDOUT, "ready\n" }

# A child's memory goes back to the kernel at its end, all of it.
sub in_child {
    my ($action) = @_;
    my $pid = fork // die "fork: $!";
    return waitpid $pid, 0 if $pid;
    $action->();
    exit 0;
}

sub write_file {
    my ($name) = @_;
    open my $file, '>', $name or die "$name: $!";
    my $data = 'd' x $chunk;
    for (1 .. $chunks) { syswrite($file, $data) // die "$name: $!" }
    close $file;
}

my %load = (
    steady => sub { my @held; grow(\@held, $chunks, 0); report(); sleep 1000 while 1 },
    busy => sub {
        my @held;
        grow(\@held, $chunks, 0);
        report();
        while (1) {
            for my $part (@held) { substr $part, 4096 * $_, 1, 'y' for 0 .. $chunk / 4096 - 1 }
            pause(0.01);
        }
    },
    saw => sub {
        for (my $first = 1 ; 1 ; $first = 0) {
            in_child(sub { my @held; grow(\@held, $chunks, $chunks ? 0.8 / $chunks : 0); pause(0.1) });
            report() if $first;
        }
    },
    growing => sub {
        for (my $first = 1 ; 1 ; $first = 0) {
            in_child(
                sub {
                    my @held;
                    report() if $first;
                    grow(\@held, $chunks, $chunks ? 10 / $chunks : 0);
                    pause(0.5);
                }
            );
        }
    },
    locked => sub {
        my $held = 'x' x ($chunks * $chunk);
        # mlock(2) has no wrapper; 149 is its number on x86-64, 228 elsewhere.
        my $mlock = `uname -m` =~ /x86_64/ ? 149 : 228;
        syscall($mlock, $held, length $held) == 0 or die "mlock: $!";
        report();
        sleep 1000 while 1;
    },
    file => sub {
        my $name = "$directory/load.$$";
        write_file($name);
        report();
        while (1) {
            open my $file, '<', $name or die "$name: $!";
            my $data;
            1 while sysread $file, $data, $chunk;
            pause(0.2);
        }
    },
    dirty => sub {
        my $name = "$directory/load.$$";
        for (my $first = 1 ; 1 ; $first = 0) { write_file($name); report() if $first }
    },
);
my $load = $load{$kind} or die "unknown kind $kind\n";
for (1 .. $processes) {
    my $pid = fork // die "fork: $!";
    next if $pid;
    $SIG{TERM} = 'DEFAULT';
    $load->();
}
1 while wait > 0;

/**
 * A D-Bus client in Perl for programs of users on attacked hosts, which have no other. It sends
 * what it is told to, also what is wrong.
 */
export const busClient = String.raw`
  use strict; use warnings; use Socket; use POSIX ();
  $SIG{PIPE} = 'IGNORE'; $| = 1;

  # Milliseconds; perl-base has no Time::HiRes.
  my $clock_gettime = (POSIX::uname())[4] eq 'aarch64' ? 113 : 228;
  sub now {
    my $time = "\0" x 16;
    syscall($clock_gettime, 1, $time) == 0 or die "clock_gettime: $!";
    my ($seconds, $nanoseconds) = unpack 'qq', $time;
    return $seconds * 1e3 + $nanoseconds / 1e6;
  }
  sub pause { select undef, undef, undef, $_[0] / 1000 }

  # Appends a value to a message's body.
  sub put {
    my ($to, $type, $value) = @_;
    my $align = sub { $$to .= "\0" x (-length($$to) % $_[0]) };
    if ($type =~ /^[so]$/) { $align->(4); $$to .= pack('V', length $value) . "$value\0" }
    elsif ($type eq 'g') { $$to .= pack('C', length $value) . "$value\0" }
    elsif ($type eq 't') { $align->(8); $$to .= pack 'Q<', $value }
    elsif ($type =~ /^[ub]$/) { $align->(4); $$to .= pack 'V', $value }
    elsif ($type eq 'v') { put($to, 'g', $value->[0]); put($to, @$value) }
    elsif ($type eq 'a{sv}') {
      $align->(4);
      my $at = length $$to;
      $$to .= pack 'V', 0;
      $align->(8);
      my $start = length $$to;
      for my $entry (@$value) {
        my ($name, @variant) = @$entry;
        $align->(8);
        put($to, 's', $name);
        put($to, 'v', \@variant);
      }
      substr $$to, $at, 4, pack 'V', length($$to) - $start;
    }
    else { die "no type $type" }
  }
  sub body { my $bytes = ''; put(\$bytes, @$_) for @_; return $bytes }

  # A connection, or nothing where the bus takes no more of this user's.
  sub connect_bus {
    socket my $socket, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!";
    connect $socket, pack_sockaddr_un('/run/dbus/system_bus_socket') or return;
    my $bus = { socket => $socket, serial => 0 };
    write_all($bus, "\0AUTH EXTERNAL " . unpack('H*', "$<") . "\r\n") or return;
    my $line = '';
    until ($line =~ /\n/) { sysread $socket, $line, 4096, length $line or return }
    $line =~ /^OK / or return;
    write_all($bus, "BEGIN\r\n") or return;
    my $hello = call($bus, to => 'org.freedesktop.DBus', path => '/org/freedesktop/DBus',
      interface => 'org.freedesktop.DBus', member => 'Hello');
    return $hello && !$hello->{error} ? $bus : undef;
  }

  sub write_all {
    my ($bus, $bytes) = @_;
    for (my $at = 0; $at < length $bytes;) {
      my $count = syswrite $bus->{socket}, $bytes, length($bytes) - $at, $at;
      defined $count or return 0;
      $at += $count;
    }
    return 1;
  }

  # A call of lockerd's manager, unless it says otherwise.
  sub message {
    my ($serial, %call) = @_;
    %call = (to => 'org.lockerd1', path => '/org/lockerd1', interface => 'org.lockerd1.Manager',
      signature => '', body => '', flags => 0, %call);
    my $fields = '';
    for ([1, 'o', 'path'], [2, 's', 'interface'], [3, 's', 'member'], [6, 's', 'to'],
        [8, 'g', 'signature']) {
      my ($code, $type, $name) = @$_;
      next if $call{$name} eq '';
      $fields .= "\0" x (-length($fields) % 8) . pack 'C', $code;
      put(\$fields, 'v', [$type, $call{$name}]);
    }
    return pack('a C C C V V V', 'l', 1, $call{flags}, 1, length $call{body}, $serial, length $fields)
      . $fields . "\0" x (-length($fields) % 8) . $call{body};
  }

  # The serial of what was sent, or 0 when the connection is gone.
  sub send_call {
    my ($bus, %call) = @_;
    my $serial = ++$bus->{serial};
    return write_all($bus, message($serial, %call)) ? $serial : 0;
  }

  sub read_exactly {
    my ($bus, $length, $end) = @_;
    my $bytes = '';
    while (length $bytes < $length) {
      my $readable = '';
      vec($readable, fileno $bus->{socket}, 1) = 1;
      my $left = ($end - now()) / 1000;
      return if $left <= 0 or !select $readable, undef, undef, $left;
      sysread $bus->{socket}, $bytes, $length - length $bytes, length $bytes or return;
    }
    return $bytes;
  }

  # The next message, or nothing after some time or when the connection is gone.
  sub receive {
    my ($bus, $limit) = @_;
    my $end = now() + $limit;
    my $head = read_exactly($bus, 16, $end) // return;
    my ($order, $type, $flags, $version, $length, $serial, $fields) = unpack 'a C C C V V V', $head;
    my $padded = $fields + -$fields % 8;
    my $rest = read_exactly($bus, $padded + $length, $end) // return;
    my %got = (type => $type, body => substr($rest, $padded), reply => 0, error => '');
    for (my $at = 0; $at < $fields; $at += -$at % 8) {
      my ($code, $kind) = unpack 'C x a', substr $rest, $at;
      $at += 4;
      if ($kind eq 'u') { $got{reply} = unpack 'V', substr $rest, $at if $code == 5; $at += 4 }
      elsif ($kind eq 'g') { $at += 2 + unpack 'C', substr $rest, $at }
      else {
        my $text = unpack 'V/a', substr $rest, $at;
        $got{error} = $text if $code == 4;
        $at += 5 + length $text;
      }
    }
    return \%got;
  }

  # The answer to a call, or nothing.
  sub call {
    my ($bus, %call) = @_;
    my $serial = send_call($bus, %call) or return;
    my $end = now() + ($call{limit} // 60_000);
    while (my $got = receive($bus, $end - now())) { return $got if $got->{reply} == $serial }
    return;
  }

  # The first text of an answer.
  sub text { my ($got) = @_; return length $got->{body} < 4 ? '' : unpack 'V/a', $got->{body} }

  sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[@sorted / 2] // -1 }
`;

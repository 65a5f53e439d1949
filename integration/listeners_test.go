package integration

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// assertLoopback fails the test when a process, or one of its children, listens on anything but loopback. It reads the
// kernel's tables, so that it does not depend on what a configuration says.
func assertLoopback(t testing.TB, p *process) {
	t.Helper()
	listeners, err := listeners(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(listeners) == 0 {
		t.Fatalf("%s has no listener; the check saw nothing", p.name)
	}
	for _, l := range listeners {
		if !l.addr.Addr().Unmap().IsLoopback() {
			t.Errorf("%s listens on %s %s, which is not loopback", p.name, l.network, l.addr)
		}
	}
}

type listener struct {
	network string
	addr    netip.AddrPort
}

// listeners returns the TCP and UDP sockets that a process group listens on (proc(5): /proc/net/tcp, /proc/PID/fd).
func listeners(group int) ([]listener, error) {
	inodes := map[string]bool{}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, dir := range procs {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 3 || fields[2] != strconv.Itoa(group) {
			continue
		}
		fds, err := filepath.Glob(dir + "/fd/*")
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			link, err := os.Readlink(fd)
			if err == nil && strings.HasPrefix(link, "socket:[") {
				inodes[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")] = true
			}
		}
	}
	var all []listener
	for _, network := range []string{"tcp", "tcp6", "udp", "udp6"} {
		found, err := socketTable(network, inodes)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// socketTable reads one of the kernel's tables and keeps the listening sockets among inodes.
func socketTable(network string, inodes map[string]bool) ([]listener, error) {
	f, err := os.Open("/proc/net/" + network)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	state := "0A" // TCP_LISTEN
	if strings.HasPrefix(network, "udp") {
		state = "07" // unconnected
	}
	var all []listener
	lines := bufio.NewScanner(f)
	lines.Scan() // the headings
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != state || !inodes[fields[9]] {
			continue
		}
		addr, err := kernelAddr(fields[1])
		if err != nil {
			return nil, err
		}
		all = append(all, listener{network, addr})
	}
	return all, lines.Err()
}

// kernelAddr parses "0100007F:1F90": words of four bytes in host order, little-endian on the machines we test on.
func kernelAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+3 < len(raw); i += 4 {
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("reading address %q", s)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr, uint16(n)), err
}

package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// node is one process with its folder.
type node struct {
	name     string
	dir      string // configuration and log; the data lie in dir/data
	port     int
	bus      int // the Cluster's second port, 0 without
	sentinel bool

	cmd  *exec.Cmd     // nil while it does not run
	done chan struct{} // closed when the process has ended
}

func (n *node) address() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }
func (n *node) data() string    { return filepath.Join(n.dir, "data") }

// add makes a data server's folder and configuration; it does not run yet.
func (s *Server) add(lines ...string) *node {
	s.t.Helper()
	n := s.newNode(fmt.Sprintf("server%d", len(s.nodes)))
	s.nodes = append(s.nodes, n)
	conf := []string{
		"save \"\"", "appendonly yes", "appendfsync always", "maxmemory-policy noeviction",
		"rdbcompression no", // whoever looks for a secret in a dump must be able to find it
		"repl-diskless-sync-delay 0", "repl-ping-replica-period 1",
	}
	if s.setup.secure {
		conf = append(conf, "tls-cluster yes", "masteruser admin", "masterauth "+adminKey,
			"user default off", "user admin on >"+adminKey+" ~* &* +@all",
			fmt.Sprintf("user %s on >%s ~%s:* resetchannels %s", UserName, userKey, s.setup.prefix, Rights))
	}
	s.configure(n, append(append(conf, lines...), s.setup.conf...))
	return n
}

// addSentinel makes a Sentinel that watches the master at that port.
func (s *Server) addSentinel(master int) *node {
	s.t.Helper()
	n := s.newNode(fmt.Sprintf("sentinel%d", len(s.sentinels)))
	n.sentinel = true
	s.sentinels = append(s.sentinels, n)
	conf := []string{
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", MasterName, master),
		fmt.Sprintf("sentinel down-after-milliseconds %s 1000", MasterName),
		fmt.Sprintf("sentinel failover-timeout %s 5000", MasterName),
	}
	if s.setup.secure {
		conf = append(conf, fmt.Sprintf("sentinel auth-user %s admin", MasterName), fmt.Sprintf("sentinel auth-pass %s %s", MasterName, adminKey))
	}
	s.configure(n, conf)
	return n
}

func (s *Server) newNode(name string) *node {
	s.t.Helper()
	n := &node{name: name, dir: filepath.Join(s.Dir, name), port: freePort(s.t)}
	if err := os.MkdirAll(n.data(), 0o700); err != nil {
		s.t.Fatalf("making the folder of %s: %v", name, err)
	}
	return n
}

// configure writes the configuration file. Servers and Sentinels rewrite it when the master changes.
func (s *Server) configure(n *node, lines []string) {
	s.t.Helper()
	conf := []string{"bind 127.0.0.1", "daemonize no", "dir " + n.data(), "logfile " + filepath.Join(n.dir, "log")}
	if s.setup.secure {
		conf = append(conf, "port 0", fmt.Sprintf("tls-port %d", n.port), "tls-replication yes", "tls-auth-clients no", "tls-ca-cert-file "+s.CA,
			"tls-cert-file "+filepath.Join(s.Dir, "server.pem"), "tls-key-file "+filepath.Join(s.Dir, "server.key"))
	} else {
		conf = append(conf, fmt.Sprintf("port %d", n.port))
	}
	text := strings.Join(append(conf, lines...), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(n.dir, "redis.conf"), []byte(text), 0o600); err != nil {
		s.t.Fatalf("configuring %s: %v", n.name, err)
	}
}

// launch starts the process and waits until it answers.
func (s *Server) launch(n *node) {
	s.t.Helper()
	if n.cmd != nil {
		return
	}
	program := "redis-server"
	if n.sentinel {
		program = "redis-sentinel"
	}
	cmd := exec.Command(program, filepath.Join(n.dir, "redis.conf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is killed leaves nothing behind
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("starting %s: %v", n.name, err)
	}
	n.cmd, n.done = cmd, make(chan struct{})
	go func(done chan struct{}) { // ends with the process
		_ = cmd.Wait()
		close(done)
	}(n.done)
	s.until(n.name+" to answer", func() bool {
		select {
		case <-n.done:
			s.t.Fatalf("redis: %s ended at once\n%s", n.name, s.logs())
		default:
		}
		out, err := s.cli(n, true, "PING")
		return err == nil && out == "PONG"
	})
	for _, port := range []int{n.port, n.bus} {
		if err := onlyLoopback(port); err != nil {
			s.t.Fatalf("redis: %s: %v", n.name, err)
		}
	}
}

// end sends the signal and waits for the process to end.
func (n *node) end(sig syscall.Signal) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGCONT) // a frozen process would not hear SIGTERM
	_ = n.cmd.Process.Signal(sig)             // fails when it has ended already, which is what we want
	<-n.done
	n.cmd = nil
}

// answerTimeout is how long redis-cli may take: a frozen server never answers.
const answerTimeout = 5 * time.Second

// cli runs redis-cli against one process, as the administrator or as the user with the least rights.
func (s *Server) cli(n *node, admin bool, args ...string) (string, error) {
	all := []string{"-h", "127.0.0.1", "-p", fmt.Sprint(n.port), "--no-auth-warning"}
	user, key := "admin", adminKey
	if !admin {
		user, key = s.Username, s.Password
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "redis-cli")
	cmd.Env = os.Environ()
	if s.setup.secure {
		all = append(all, "--tls", "--cacert", s.CA)
		if !n.sentinel {
			all = append(all, "--user", user)
			cmd.Env = append(cmd.Env, "REDISCLI_AUTH="+key)
		}
	}
	if s.Cluster {
		all = append(all, "-c")
	}
	cmd.Args = append(append(cmd.Args, all...), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("redis-cli %s at %s: %w: %s%s", args[0], n.name, err, out, stderr.Bytes())
	}
	return strings.TrimRight(string(out), "\n"), err
}

// logs are the last lines of each process.
func (s *Server) logs() string {
	var b strings.Builder
	for _, n := range append(append([]*node(nil), s.nodes...), s.sentinels...) {
		text, _ := os.ReadFile(filepath.Join(n.dir, "log")) // absent when it never ran
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&b, "--- %s\n%s\n", n.name, strings.Join(lines[max(0, len(lines)-12):], "\n"))
	}
	return b.String()
}

// freePort returns a port on 127.0.0.1 that is free, from below the range that the kernel gives to outgoing connections, so that
// a server that is down for a moment finds its port again. It stays taken until the test ends, for the tests of other packages
// too: an abstract unix socket of the port's name is what all of them agree on.
func freePort(t TB) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		mine, err := net.Listen("unix", fmt.Sprintf("@anteroom-test-port-%d", port))
		if err != nil {
			continue
		}
		t.Cleanup(func() { mine.Close() })
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err == nil {
			return port
		}
	}
	t.Fatalf("no free port on 127.0.0.1")
	return 0
}

// onlyLoopback reports an error when the port is open on any other address than 127.0.0.1: a server without a password must
// never be reachable from another machine.
func onlyLoopback(port int) error {
	if port == 0 {
		return nil
	}
	found := false
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 here
		}
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) { // 0A: listening
				continue
			}
			if !strings.HasPrefix(f[1], "0100007F:") { // 127.0.0.1 as the kernel of a little-endian machine writes it
				return fmt.Errorf("port %d listens on %s and not on 127.0.0.1 alone", port, f[1])
			}
			found = true
		}
	}
	if !found {
		return fmt.Errorf("port %d is not in the kernel's table", port)
	}
	return nil
}

package integration

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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the repository's top folder; tests run in integration/.
var root = func() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// artifacts returns the folder that keeps this test's logs and screenshots after the run.
func artifacts(t testing.TB) string {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	dir := filepath.Join(root, "integration", "artifacts", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// part returns a file that parts.sh made.
func part(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root, ".parts", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: run integration/parts.sh", path)
	}
	return path
}

var build = sync.OnceValue(func() error {
	out, err := exec.Command("make", "-s", "-C", root, "build").CombinedOutput()
	if err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
})

// binary returns the path of bin/<name>, built from the tree as it is now; with ANTEROOM_BIN the one in that folder, to test a
// binary that is there already.
func binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("ANTEROOM_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "bin", name)
}

// freePort returns a port on 127.0.0.1 that is free for TCP and UDP. It is taken from below the range that the kernel gives
// to outgoing connections, so that no connection of a neighbour takes it before our process does; and no test of another
// package takes it (redistest) before this one has ended: an abstract unix socket of the port's name is what all agree on.
func freePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		mine, err := net.Listen("unix", fmt.Sprintf("@anteroom-test-port-%d", port))
		if err != nil {
			continue
		}
		t.Cleanup(func() { mine.Close() })
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		tcp.Close()
		udp, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		udp.Close()
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// process is a program that a test started, with all its children.
type process struct {
	name    string
	cmd     *exec.Cmd
	logPath string
	done    chan struct{} // closed when the program has ended
}

// start runs a program until the test ends. Its output is kept as <artifacts>/<name>.log, of several starts the last one's.
func start(t testing.TB, name string, env []string, argv ...string) *process {
	t.Helper()
	logPath := filepath.Join(t.TempDir(), name+".log")
	logFile, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close() // the program has its own descriptor
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(cleanEnv(), env...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// Its own process group, so that no child survives; and the kernel ends it when the test process dies first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	p := &process{name: name, cmd: cmd, logPath: logPath, done: make(chan struct{})}
	go func() { // ends with the program; stop makes sure that it does
		_ = cmd.Wait() // the exit status of a program that we end ourselves says nothing
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(t)
		kept := filepath.Join(artifacts(t), name+".log")
		if err := os.WriteFile(kept, []byte(p.log()), 0o644); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("end of %s:\n%s", kept, p.tail())
		}
	})
	return p
}

// cleanEnv is the environment without what would change where a program reads, writes or connects.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "CADDY_ADMIN", "HOME", "SSLKEYLOGFILE":
		default:
			env = append(env, e)
		}
	}
	return env
}

// stop ends the program and its children, kindly first.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Logf("%s did not end within %v of SIGTERM", p.name, patience)
	}
	p.kill()
}

// kill ends the program at once, as a crash would.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

func (p *process) signal(sig syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, sig) // ESRCH: it has ended already
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) log() string {
	b, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) tail() string {
	lines := slices.DeleteFunc(strings.Split(p.log(), "\n"), func(line string) bool {
		return strings.Contains(line, `"level":"debug"`) // in the file for whoever needs them
	})
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// waitFor polls until ready returns nil; it fails the test when the program ends first or after the limit.
func (p *process) waitFor(t testing.TB, limit time.Duration, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ready()
		if err == nil {
			return
		}
		if !p.running() {
			t.Fatalf("%s ended before it was ready (%v):\n%s", p.name, err, p.tail())
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after %v: %v\n%s", p.name, limit, err, p.tail())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// eventually polls until check returns nil.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// result is what a command that ran to its end left.
type result struct {
	code           int
	stdout, stderr string
}

// output runs a program to its end, at most three minutes.
func output(t testing.TB, env []string, argv ...string) result {
	t.Helper()
	return outputIn(t, "", env, argv...)
}

func outputIn(t testing.TB, stdin string, env []string, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(cleanEnv(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %v: %v", argv, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

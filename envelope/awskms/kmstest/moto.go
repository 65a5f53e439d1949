package kmstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Moto is an emulator of the AWS API in a process of its own, on the loopback interface.
type Moto struct {
	URL string
	t   testing.TB
	key string
	pid int
}

// StartMoto starts the emulator that integration/parts.sh installed, with one key; it ends with the test. Without it the test is
// skipped, and fails where CI=true.
func StartMoto(t testing.TB) *Moto {
	t.Helper()
	program := findMoto()
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("moto is missing: run integration/parts.sh")
		}
		t.Skip("moto is missing: run integration/parts.sh")
	}
	port := freePort(t)
	log := filepath.Join(t.TempDir(), "moto.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the program has its own descriptor
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "MOTO_ALLOW_NONEXISTENT_REGION=false"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the program, which the cleanup kills
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	m := &Moto{URL: fmt.Sprintf("http://127.0.0.1:%d", port), t: t, pid: cmd.Process.Pid}
	m.wait(log)
	var made struct{ KeyMetadata struct{ Arn string } }
	m.ask("CreateKey", map[string]any{"Description": "anteroom"}, &made)
	m.key = made.KeyMetadata.Arn
	m.ask("CreateAlias", map[string]any{"AliasName": AliasName, "TargetKeyId": m.key}, nil)
	return m
}

// findMoto looks in .parts of the repository, whatever package's test it is.
func findMoto() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		program := filepath.Join(dir, ".parts", "moto", "bin", "moto_server")
		if _, missing := os.Stat(program); missing == nil {
			return program
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// freePort holds a name that the tests of all packages respect (see integration) while it uses the port.
func freePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		mine, err := net.Listen("unix", fmt.Sprintf("@anteroom-test-port-%d", port))
		if err != nil {
			continue
		}
		t.Cleanup(func() { mine.Close() })
		tcp, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		tcp.Close()
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

func (m *Moto) wait(log string) {
	m.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(m.URL + "/moto-api/data.json"); err == nil {
			resp.Body.Close()
			return
		}
	}
	said, _ := os.ReadFile(log)
	m.t.Fatalf("moto does not answer: %s", said)
}

// Key is the ARN of its key.
func (m *Moto) Key() string { return m.key }

// id is the key's name for operations that change it; the emulator takes no ARN there.
func (m *Moto) id() string { return m.key[strings.Index(m.key, "/")+1:] }

// Disable, Enable and Delete do to the key what an operator of AWS can do. The emulator shows the state, and goes on using the
// key: what a state means for the operations is tested with the Fake.

// Disable disables the key.
func (m *Moto) Disable() { m.ask("DisableKey", map[string]any{"KeyId": m.id()}, nil) }

// Enable enables the key again, also one whose deletion was scheduled.
func (m *Moto) Enable() {
	m.ask("CancelKeyDeletion", map[string]any{"KeyId": m.id()}, nil)
	m.ask("EnableKey", map[string]any{"KeyId": m.id()}, nil)
}

// Delete schedules the deletion of the key.
func (m *Moto) Delete() {
	m.ask("ScheduleKeyDeletion", map[string]any{"KeyId": m.id(), "PendingWindowInDays": 7}, nil)
}

// Freeze stops the process: it takes connections, and answers nothing.
func (m *Moto) Freeze() { m.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (m *Moto) Thaw() { m.signal(syscall.SIGCONT) }

func (m *Moto) signal(s syscall.Signal) {
	m.t.Helper()
	if err := syscall.Kill(-m.pid, s); err != nil {
		m.t.Fatal(err)
	}
}

// ask calls an operation of the API; the emulator looks at no signature, only at the region in it.
func (m *Moto) ask(operation string, in, out any) {
	m.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, m.URL+"/", bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+Region+"/kms/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		m.t.Fatalf("%s: %v", operation, err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		m.t.Fatalf("%s: %s %s, %v", operation, resp.Status, strings.TrimSpace(string(said)), err)
	}
	if out != nil {
		if err := json.Unmarshal(said, out); err != nil {
			m.t.Fatal(err)
		}
	}
}

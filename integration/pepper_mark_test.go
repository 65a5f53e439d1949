package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRow165PepperMark: the program is killed again and again while its password ring changes, between the store and the mark as
// well: every start opens the ring. A store that is set back while the program is down is refused, with what to do; and after
// that it opens without a restart.
func TestRow165PepperMark(t *testing.T) {
	r := prepare(t, "")
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken+"\n")
	config := strings.Replace(strings.Replace(hmacConfig, globals+"\n}", hallGlobals+"\n\tanteroom\n}", 1), "recovery $RECOVERY", "no_recovery", 1)
	r.configure(t, config)
	data := filepath.Join(r.dataDir(), "anteroom")
	r.run(t)
	record := r.protect(t, "dana", "s3cret")
	r.proc.stop(t)
	backup, err := os.ReadFile(filepath.Join(data, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(data, "pepper.mark")); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		r.run(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			output(t, r.env(), binary(t, "anteroom"), "keys", "ring", "rotate", "--in", "0s", "--config", filepath.Join(r.dir, "Caddyfile"))
		}()
		time.Sleep(time.Duration(40+i*60) * time.Millisecond) // the command needs some 100 ms to start
		r.proc.kill()
		<-done
		r.run(t)
		if !r.verify(t, "dana", "s3cret", record) {
			t.Fatal("the record does not verify")
		}
		r.proc.kill()
	}
	r.run(t)
	if res := output(t, r.env(), binary(t, "anteroom"), "keys", "ring", "rotate", "--in", "0s", "--config", filepath.Join(r.dir, "Caddyfile")); res.code != 0 {
		t.Fatalf("%s%s", res.stdout, res.stderr)
	}
	r.proc.stop(t)
	write(t, filepath.Join(data, "store.db"), string(backup))
	r.run(t)
	ask := func() (status, body string) {
		return r.curl(t, "-H", "Authorization: Bearer "+hmacToken, "-H", "Content-Type: application/json",
			"--data-binary", mustJSON(map[string]string{"uid": "dana", "secret": "s3cret", "record": record}), r.hmacURL("/hmac-service/v1/verify"))
	}
	if status, body := ask(); status != "503" || !strings.Contains(body, "locked") {
		t.Errorf("after the store was set back: %s %s", status, body)
	}
	mark := filepath.Join(data, "pepper.mark")
	if log := r.proc.log(); !strings.Contains(log, "the store was set back") || !strings.Contains(log, mark) {
		t.Errorf("the log does not say what to do:\n%s", r.proc.tail())
	}
	if err := os.Remove(mark); err != nil { // it was restored on purpose
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		status, body := ask()
		if status != "200" || !strings.Contains(body, `"match":true`) {
			return os.ErrInvalid
		}
		return nil
	})
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
	// A store that was emptied gets no second ring, and heals with its backup.
	r.proc.stop(t)
	store := filepath.Join(data, "store.db")
	if err := os.Rename(store, store+".away"); err != nil {
		t.Fatal(err)
	}
	r.run(t)
	if status, body := ask(); status != "503" || !strings.Contains(body, "locked") || !strings.Contains(r.proc.log(), "the store was emptied") {
		t.Errorf("after the store was emptied: %s %s\n%s", status, body, r.proc.tail())
	}
	r.proc.stop(t)
	if err := os.Rename(store+".away", store); err != nil {
		t.Fatal(err)
	}
	r.run(t)
	if status, body := ask(); status != "200" || !strings.Contains(body, `"match":true`) {
		t.Errorf("with the store back: %s %s", status, body)
	}
}

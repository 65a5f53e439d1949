package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	"github.com/caddyserver/caddy/v2"
)

// withStorage is a config with local services, an embedded store, and its certificates in Redis.
func withStorage(t *testing.T, server *redistest.Server) keyRig {
	t.Helper()
	b := newBench(t)
	file := b.hmacFile(t, "", hmacSite)
	place := "storage file_system " + b.dir + "/data/caddy"
	if !strings.Contains(file, place) {
		t.Fatal("the options have changed")
	}
	return newKeyRig(t, b, strings.Replace(file, place, "storage anteroom_redis "+server.URL(), 1))
}

// storageKey waits for the storage to be connected to and gives its primary.
func (r keyRig) storageKey() string {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s := r.status().Storage
		switch {
		case s == nil:
			r.t.Fatal("no storage is listed")
		case s.Status != nil:
			return primaryKey(r.t, s.Own)
		case time.Now().After(end):
			r.t.Fatalf("%+v", s)
		}
	}
}

// Rows 155 and 156: what lies in a certificate storage of its own is sealed anew like everything else, and the old key is gone.
func TestRow156CertificateStorage(t *testing.T) {
	server := redistest.Standalone(t)
	r := withStorage(t, server)
	key := r.storageKey()
	storage := caddy.ActiveContext().Storage()
	for i := range 30 {
		if err := storage.Store(t.Context(), fmt.Sprintf("certificates/x/%d.key", i), []byte("private "+fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	s := r.status()
	if n := s.Storage.Records[key]; n < 60 || !strings.Contains(s.Storage.Name, server.Addresses[0]) || s.Records[key] != 0 {
		t.Errorf("status: %d values, %+v", n, s.Storage)
	}
	if status, text := r.ask("compromised", fmt.Sprintf(`{"id":%q}`, key), nil); status != 404 || !strings.Contains(text, "write storage/"+key) {
		t.Errorf("without its place: %d %s", status, text)
	}
	if status, text := r.ask("compromised", `{"id":"storage/0123456789abcdef"}`, nil); status != 404 || !strings.Contains(text, "nothing here is called") {
		t.Errorf("a key of nobody: %d %s", status, text)
	}
	if status, text := r.ask("begin", `{"verb":"rotate-master"}`, nil); status != 409 || !strings.Contains(text, "keys migrate") {
		t.Errorf("a new master key file: %d %s", status, text)
	}
	id := fmt.Sprintf(`{"id":"storage/%s"`, key)
	var plan keyAnswer
	if status, text := r.ask("compromised", id+`,"dry_run":true}`, &plan); status != 200 || plan.Plan == nil || plan.Plan.Reseal < 60 || !strings.Contains(text, "revoke the old ones") || strings.Contains(text, "signed out") {
		t.Errorf("dry run: %d %s", status, text)
	}
	var both keyAnswer
	if status, text := r.ask("begin", `{"verb":"migrate","dry_run":true}`, &both); status != 200 || len(both.More) != 1 || both.More[0] != ringStorage {
		t.Errorf("migrate: %d %s", status, text)
	}
	r.done("begin", `{"verb":"migrate","ring":"storage"}`)
	// Somebody who can write to Redis names the key in bytes that nobody can open.
	server.Do("EVAL", `return redis.call('SET', KEYS[1], (ARGV[1]:gsub('..', function(c) return string.char(tonumber(c, 16)) end)))`, "1",
		"anteroom:k:"+strings.Repeat("ab", 32), "02"+key+strings.Repeat("55", 60))
	op := r.done("compromised", id+"}", func() { load(t, r.config) }) // and the config is loaded anew, which takes nothing away
	storage = caddy.ActiveContext().Storage()
	if op.Aside == nil || op.Aside.Count != 1 || op.Aside.Names[0] != "anteroom:k:"+strings.Repeat("ab", 32) || stateOf(r.status().Storage.Own, key) != rekey.Condemned {
		t.Errorf("with junk: %+v", op)
	}
	if op = r.done("compromised", id+`,"force":true}`); op.Verb != rekey.DestroyData {
		t.Errorf("once more: %+v", op)
	}
	after := r.status()
	if stateOf(after.Storage.Own, key) != rekey.Destroyed || after.Storage.Records[key] != 1 || after.Storage.Records[primaryKey(t, after.Storage.Own)] < 60 {
		t.Errorf("after: %+v", after.Storage)
	}
	if kept := primaryKey(t, after.Own); kept != primaryKey(t, s.Own) {
		t.Error("the store has a new data key as well")
	}
	for i := range 30 {
		if b, err := storage.Load(t.Context(), fmt.Sprintf("certificates/x/%d.key", i)); err != nil || string(b) != "private "+fmt.Sprint(i) {
			t.Fatalf("%d: %q, %v", i, b, err)
		}
	}
	var report keyReport
	if status, text := r.ask("report", "", &report); status != 200 || !strings.Contains(report.Report, "certificate storage") || !strings.Contains(report.Report, key) {
		t.Errorf("report: %d %s", status, text)
	}
	// And what is left of it keeps nothing from working.
	if status, text := r.ask("status", "", nil); status != 200 {
		t.Errorf("status: %d %s", status, text)
	}
	if audit := r.auditText(t); !strings.Contains(audit, "compromised-data storage/"+key) {
		t.Error("the audit log does not say which key")
	}
}

// A storage that is away keeps nothing else from working, and every answer says what to do.
func TestRow155CertificateStorageAway(t *testing.T) {
	server := redistest.Standalone(t)
	r := withStorage(t, server)
	key := r.storageKey()
	server.Stop()
	if s := r.status(); s.Storage == nil || s.Storage.Status != nil || s.Storage.Problem == "" || len(s.Own) == 0 {
		t.Errorf("status: %+v", s.Storage)
	}
	for _, q := range []struct{ path, body string }{
		{"compromised", `{"id":"storage/` + key + `"}`}, {"begin", `{"verb":"rotate-data","ring":"storage"}`}, {"begin", `{"verb":"migrate","ring":"storage"}`},
	} {
		if status, text := r.ask(q.path, q.body, nil); status != http.StatusServiceUnavailable || !strings.Contains(text, "ask again") {
			t.Errorf("%s: %d %s", q.body, status, text)
		}
	}
	r.done("begin", `{"verb":"rotate-data"}`)
	away := &storageDesk{files: &redisFiles{name: "anteroom_redis redis.example"}, failed: errors.New("nobody answers")}
	d := desk{keys: keyDesk{certs: away}}
	if _, err := d.ringOf(ringStorage); err == nil || problemOf(err).status != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "repeat the command") {
		t.Errorf("before it was connected to: %v", err)
	}
	if why := away.needs("local:0123456789abcdef"); !strings.Contains(why, "redis.example") {
		t.Errorf("a key file may go: %q", why)
	}
	if _, err := (desk{}).ringOf(ringStorage); err == nil || problemOf(err).status != http.StatusNotFound {
		t.Errorf("without a storage: %v", err)
	}
}

package careconnect

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// service is a hardening service that keeps its promises but no secret. status
// makes it fail; rehash makes it hand out fresh records.
type service struct {
	*httptest.Server
	token  string
	status atomic.Int32
	rehash atomic.Bool
	body   atomic.Pointer[string] // instead of an answer
}

func serve(t *testing.T, dir string) (*service, Config) {
	t.Helper()
	s := &service{token: strings.Repeat("t", 40)}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c := Config{Dir: dir, HMACURL: s.URL + "/hmac-service", TokenFile: filepath.Join(t.TempDir(), "token"), CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for path, data := range map[string][]byte{c.TokenFile: []byte(s.token + "\n"), c.CAFile: ca} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, c
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n := s.status.Load(); n != 0 {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(int(n))
		return
	}
	if b := s.body.Load(); b != nil {
		fmt.Fprint(w, *b)
		return
	}
	if r.Method != "POST" || r.Header.Get("Authorization") != "Bearer "+s.token || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	type item struct{ UID, Secret, Context, Record string }
	made := func(i item, v int) string { return fmt.Sprintf("$v%d$%s$%s$%x", v, i.Context, i.UID, i.Secret) }
	switch r.URL.Path {
	case "/hmac-service/v1/protect":
		var in struct{ Items []item }
		json.NewDecoder(r.Body).Decode(&in)
		json.NewEncoder(w).Encode(map[string]any{"items": []map[string]string{{"record": made(in.Items[0], 1)}}})
	case "/hmac-service/v1/verify":
		var in item
		json.NewDecoder(r.Body).Decode(&in)
		out := map[string]any{"match": in.Record == made(in, 1) || in.Record == made(in, 2), "needs_rehash": false, "record": nil}
		if s.rehash.Load() && out["match"] == true {
			out["needs_rehash"], out["record"] = true, made(in, 2)
		}
		json.NewEncoder(w).Encode(out)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func set(h http.Handler, patient, current, pin string) *httptest.ResponseRecorder {
	return post(h, "/pin/set", url.Values{"patient": {patient}, "current": {current}, "pin": {pin}, "again": {pin}})
}

func check(h http.Handler, patient, pin string) *httptest.ResponseRecorder {
	return post(h, "/pin/check", url.Values{"patient": {patient}, "pin": {pin}})
}

func TestPINSetCheckChange(t *testing.T) {
	dir := t.TempDir()
	s, c := serve(t, dir)
	h := start(t, c)
	want(t, check(h, "p1005", "8642"), 422, "No portal PIN is set")
	want(t, set(h, "p1005", "", "8642"), 303, "")
	h = start(t, c) // a restart
	want(t, check(h, "p1005", "8642"), 200, "The portal PIN is right.")
	want(t, check(h, "p1005", "8643"), 422, wrongPIN)
	want(t, check(h, "p1006", "8642"), 422, "No portal PIN is set")
	want(t, set(h, "p1005", "1111", "2222"), 422, "Nothing was changed")
	want(t, set(h, "p1005", "", "2222"), 422, "Nothing was changed")
	want(t, check(h, "p1005", "8642"), 200, "right")
	want(t, set(h, "p1005", "8642", "97531"), 303, "")
	want(t, check(h, "p1005", "8642"), 422, wrongPIN)

	s.rehash.Store(true)
	want(t, check(h, "p1005", "97531"), 200, "right")
	raw, err := os.ReadFile(filepath.Join(dir, "careconnect.json"))
	if err != nil || !strings.Contains(string(raw), "$v2$portal-pin$p1005$") {
		t.Errorf("the fresh record was not stored: %v", err)
	}
	if strings.Contains(string(raw), "97531") || strings.Contains(string(raw), "8642") {
		t.Error("a PIN stands in the state file")
	}
}

func TestPINForm(t *testing.T) {
	_, c := serve(t, t.TempDir())
	h := start(t, c)
	for _, pin := range []string{"", "123", "123456789", "12a4", "١٢٣٤", " 1234"} {
		want(t, set(h, "p1001", "", pin), 422, "four to eight digits")
	}
	want(t, post(h, "/pin/set", url.Values{"patient": {"p1001"}, "pin": {"1234"}, "again": {"1235"}}), 422, "differ")
	want(t, set(h, "p1", "", "1234"), 422, "no such patient")
	want(t, check(h, "", "1234"), 422, "no such patient")
}

func TestPINServiceAway(t *testing.T) {
	dir := t.TempDir()
	s, c := serve(t, dir)
	h := start(t, c)
	want(t, set(h, "p1005", "", "8642"), 303, "")
	before, _ := os.ReadFile(filepath.Join(dir, "careconnect.json"))
	fails := func(name string, status int) {
		t.Helper()
		for _, w := range []*httptest.ResponseRecorder{check(h, "p1005", "8642"), set(h, "p1005", "8642", "1111"), set(h, "p1007", "", "1111")} {
			if w.Code != status || !strings.Contains(w.Body.String(), "Nothing was changed") {
				t.Errorf("%s: %d, want %d:\n%s", name, w.Code, status, w.Body)
			}
		}
		if after, _ := os.ReadFile(filepath.Join(dir, "careconnect.json")); string(after) != string(before) {
			t.Errorf("%s: the state changed", name)
		}
	}
	for status, shown := range map[int32]int{401: 503, 404: 503, 500: 503, 503: 503, 307: 503, 429: 429} {
		s.status.Store(status)
		fails(fmt.Sprint(status), shown)
	}
	s.status.Store(0)
	for _, body := range []string{"", "not JSON", strings.Repeat("[", 100_000)} {
		s.body.Store(&body)
		fails(fmt.Sprintf("%.10q", body), 503)
	}
	s.body.Store(nil)
	want(t, check(h, "p1005", "8642"), 200, "right")

	token, _ := os.ReadFile(c.TokenFile)
	os.WriteFile(c.TokenFile, []byte("wrong"), 0o600)
	fails("wrong token", 503)
	os.Remove(c.TokenFile)
	fails("no token file", 503)
	os.WriteFile(c.TokenFile, token, 0o600)
	os.WriteFile(c.CAFile, []byte("no certificate"), 0o600)
	fails("no CA", 503)
	os.Remove(c.CAFile)
	fails("no CA file", 503)
	s.Close()
	fails("not listening", 503)

	h = start(t, Config{Dir: dir})
	fails("not configured", 503)
	want(t, get(h, "/pin"), 200, "(PIN set)")
	want(t, get(h, "/"), 200, "Welcome")
}

func TestPINAnswerWithoutRecord(t *testing.T) {
	s, c := serve(t, t.TempDir())
	h := start(t, c)
	for _, body := range []string{`{}`, `{"items":[]}`, `{"items":[{}]}`} {
		s.body.Store(&body)
		want(t, set(h, "p1001", "", "1234"), 503, "Nothing was changed")
	}
}

func TestHMACURL(t *testing.T) {
	for _, u := range []string{"http://localhost/hmac-service", "localhost:8444", "https://", "https://u:p@localhost/x", "https://localhost/?a", "%"} {
		if _, err := New(Config{Dir: t.TempDir(), HMACURL: u, TokenFile: "x"}); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
	if _, err := New(Config{Dir: t.TempDir(), HMACURL: "https://localhost/hmac-service"}); err == nil {
		t.Error("an address without a token file was taken")
	}
}

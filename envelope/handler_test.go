package envelope

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
)

const serviceToken = "0123456789abcdef0123456789abcdef-service"

// recorder keeps events; err makes it fail.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (r *recorder) Record(_ context.Context, e audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.events = append(r.events, e)
	}
	return r.err
}

func (r *recorder) take() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// serviceRig is a service with a vault in the clear.
type serviceRig struct {
	*Service
	vault *clearVault
	audit *recorder
	log   *bytes.Buffer
	facts func(*loopback.Facts)
}

func newServiceRig(t *testing.T) *serviceRig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(serviceToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := loopback.OpenTokenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &serviceRig{vault: &clearVault{id: 7, keys: []KeyInfo{{ID: "0707070707070707", State: StatePrimary}, {ID: "0606060606060606", State: StateOpen}, {ID: "0505050505050505", State: StateDestroyed}}},
		audit: &recorder{}, log: &bytes.Buffer{}, facts: func(*loopback.Facts) {}}
	lo := netip.MustParseAddr("127.0.0.1")
	r.Service, err = NewService(ServiceConfig{
		Vault: r.vault, Tenant: "clinic", Hosts: []string{"localhost"}, Callers: loopback.Callers{Token: token}, Audit: r.audit,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Facts: func(q *http.Request) loopback.Facts {
			f := loopback.Facts{KernelRemote: lo, KernelLocal: lo, Remote: lo, Client: lo, ProtoMajor: 1, ProtoMinor: 1,
				TLSVersion: tls.VersionTLS13, HandshakeComplete: true, SNI: "localhost", Host: "localhost:8444", Header: q.Header}
			r.facts(&f)
			return f
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// call asks as a right caller does; change makes it a wrong one.
func (r *serviceRig) call(path, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	q := httptest.NewRequest("POST", "https://localhost:8444"+ServicePath+"/v1/"+path, strings.NewReader(body))
	q.Header.Set("Authorization", "Bearer "+serviceToken)
	q.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "stream/") {
		q.Header.Set("Content-Type", "application/octet-stream")
	}
	for _, c := range change {
		c(q)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// sealOne seals one value over the service.
func (r *serviceRig) sealOne(t *testing.T, purpose, id, text string) string {
	t.Helper()
	w := r.call("seal", fmt.Sprintf(`{"items":[{"purpose":%q,"id":%q,"plaintext":%q}]}`, purpose, id, b64(text)))
	var answer struct{ Items []struct{ Sealed string } }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || len(answer.Items) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return answer.Items[0].Sealed
}

func TestServiceValues(t *testing.T) {
	r := newServiceRig(t)
	for _, text := range []string{"", "x", "Größe\x00", strings.Repeat("a", 100000)} {
		sealed := r.sealOne(t, "notes", "p1001", text)
		w := r.call("open", fmt.Sprintf(`{"items":[{"purpose":"notes","id":"p1001","sealed":%q},{"purpose":"notes","id":"p1002","sealed":%q},{"purpose":"Notes","id":"p1001","sealed":%q}]}`, sealed, sealed, sealed))
		var answer struct {
			Items []struct {
				Plaintext *string
				Error     *problem
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || len(answer.Items) != 3 {
			t.Fatalf("%d %.500s", w.Code, w.Body)
		}
		if p := answer.Items[0].Plaintext; p == nil || *p != b64(text) {
			t.Errorf("%.20q does not come back: %.300s", text, w.Body)
		}
		for _, other := range answer.Items[1:] {
			if other.Plaintext != nil || other.Error == nil || other.Error.Type != "urn:anteroom:problem:sealed" {
				t.Errorf("another record opens it: %+v", other)
			}
		}
		w = r.call("reseal", fmt.Sprintf(`{"items":[{"purpose":"notes","id":"p1001","sealed":%q},{"purpose":"notes","id":"x","sealed":%q}]}`, sealed, sealed))
		if want := fmt.Sprintf(`{"items":[{"sealed":%q,"changed":false},{"error":{"type":"urn:anteroom:problem:sealed"`, sealed); w.Code != 200 || !strings.HasPrefix(w.Body.String(), want) {
			t.Errorf("reseal: %d %.300s", w.Code, w.Body)
		}
	}
}

func TestServiceKeysAndCensus(t *testing.T) {
	r := newServiceRig(t)
	w := r.call("keys", `{}`)
	if s := w.Body.String(); w.Code != 200 || !strings.Contains(s, `"id":"0606060606060606","state":"open","created":"0001-01-01T00:00:00Z","reseal_due":true`) || strings.Count(s, `"reseal_due":true`) != 2 || strings.Contains(s, "aster") {
		t.Errorf("%d %s", w.Code, s)
	}
	r.vault.id = 6
	old := r.sealOne(t, "a", "b", "c")
	stream := sealed(t, letter, []byte("x"))
	r.vault.id = 7
	w = r.call("census", fmt.Sprintf(`{"sealed":[%q,%q,%q,%q,""]}`, old, r.sealOne(t, "a", "b", "c"), b64(string(stream[:20])), b64("something else")))
	if got := strings.TrimSpace(w.Body.String()); got != `{"foreign":3,"keys":{"0606060606060606":1,"0707070707070707":1},"sealed":5}` {
		t.Errorf("%d %s", w.Code, got)
	}
	r.vault.keys = nil
	if w := r.call("keys", `{}`); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("before the start: %d", w.Code)
	}
}

// TestServiceRefusals: every wrong way, each with a problem, an event and nothing repeated.
func TestServiceRefusals(t *testing.T) {
	const secret = "plain-secret-of-the-caller"
	good := fmt.Sprintf(`{"items":[{"purpose":"notes","id":"p1001","plaintext":%q}]}`, b64(secret))
	header := func(name, value string) func(*http.Request) {
		return func(q *http.Request) { q.Header.Set(name, value) }
	}
	stream := string(sealed(t, letter, []byte(secret)))
	for name, c := range map[string]struct {
		path, body string
		change     func(*http.Request)
		want       int
		kind       string
	}{
		"no credential":               {"seal", good, func(q *http.Request) { q.Header.Del("Authorization") }, 401, "credential"},
		"wrong credential":            {"seal", good, header("Authorization", "Bearer "+serviceToken+"x"), 401, "credential"},
		"two credentials":             {"seal", good, func(q *http.Request) { q.Header.Add("Authorization", "Bearer "+serviceToken) }, 401, "credential"},
		"no credential, unknown path": {"nothing", good, func(q *http.Request) { q.Header.Del("Authorization") }, 401, "credential"},
		"unknown path":                {"nothing", good, nil, 404, "not-found"},
		"an encoded path":             {"%73eal", good, nil, 404, "not-found"},
		"GET":                         {"seal", good, func(q *http.Request) { q.Method = "GET" }, 405, "method"},
		"not JSON":                    {"seal", good, header("Content-Type", "text/plain"), 415, "content-type"},
		"compressed":                  {"seal", good, header("Content-Encoding", "gzip"), 415, "content-type"},
		"broken JSON":                 {"seal", "{", nil, 400, "input"},
		"no items":                    {"seal", `{"items":[]}`, nil, 400, "input"},
		"null":                        {"seal", `{"items":null}`, nil, 400, "input"},
		"unknown member":              {"seal", `{"items":[{"purpose":"a","id":"b","plaintext":"","x":1}]}`, nil, 400, "input"},
		"another case":                {"seal", `{"items":[{"Purpose":"a","id":"b","plaintext":""}]}`, nil, 400, "input"},
		"a member twice":              {"seal", `{"items":[{"purpose":"a","id":"b","id":"c","plaintext":""}]}`, nil, 400, "input"},
		"something behind":            {"seal", good + "{}", nil, 400, "input"},
		"no purpose":                  {"seal", `{"items":[{"id":"b","plaintext":""}]}`, nil, 400, "input"},
		"no id":                       {"seal", `{"items":[{"purpose":"a","plaintext":""}]}`, nil, 400, "input"},
		"no plaintext":                {"seal", `{"items":[{"purpose":"a","id":"b"}]}`, nil, 400, "input"},
		"purpose with blank":          {"seal", `{"items":[{"purpose":"a b","id":"b","plaintext":""}]}`, nil, 400, "input"},
		"lone surrogate":              {"seal", `{"items":[{"purpose":"a","id":"\ud800","plaintext":""}]}`, nil, 400, "input"},
		"not UTF-8":                   {"seal", "{\"items\":[{\"purpose\":\"a\",\"id\":\"\xff\",\"plaintext\":\"\"}]}", nil, 400, "input"},
		"control character":           {"seal", `{"items":[{"purpose":"a","id":"b\u0000","plaintext":""}]}`, nil, 400, "input"},
		"not base64":                  {"seal", `{"items":[{"purpose":"a","id":"b","plaintext":"***"}]}`, nil, 400, "input"},
		"base64 otherwise":            {"seal", `{"items":[{"purpose":"a","id":"b","plaintext":"QQ=\n="}]}`, nil, 400, "input"},
		"base64 loose end":            {"seal", `{"items":[{"purpose":"a","id":"b","plaintext":"QR=="}]}`, nil, 400, "input"},
		"too many items":              {"seal", `{"items":[` + strings.Repeat(`{"purpose":"a","id":"b","plaintext":""},`, maxItems) + `{"purpose":"a","id":"b","plaintext":""}]}`, nil, 413, "too-large"},
		"too large":                   {"seal", good + strings.Repeat(" ", maxBody), nil, 413, "too-large"},
		"keys of something":           {"keys", `{"x":1}`, nil, 400, "input"},
		"census of nothing":           {"census", `{}`, nil, 400, "input"},
		"stream as JSON":              {"stream/seal?purpose=a&id=b", secret, header("Content-Type", "application/json"), 415, "content-type"},
		"stream without id":           {"stream/seal?purpose=a", secret, nil, 400, "input"},
		"stream, id twice":            {"stream/seal?purpose=a&id=b&id=c", secret, nil, 400, "input"},
		"stream, unknown":             {"stream/seal?purpose=a&id=b&first=1", secret, nil, 400, "input"},
		"stream, bad escape":          {"stream/seal?purpose=a&id=%zz", secret, nil, 400, "input"},
		"stream, bad first":           {"stream/open?purpose=documents&id=d1&first=01", stream, nil, 400, "input"},
		"stream, bad more":            {"stream/open?purpose=documents&id=d1&more=0", stream, nil, 400, "input"},
		"another document":            {"stream/open?purpose=documents&id=d2", stream, nil, 422, "sealed"},
		"a cut stream":                {"stream/open?purpose=documents&id=d1", stream[:len(stream)-1], nil, 422, "sealed"},
		"no stream":                   {"stream/open?purpose=documents&id=d1", secret, nil, 422, "sealed"},
		"no header":                   {"stream/reseal?purpose=documents&id=d1&header=only", stream, nil, 422, "sealed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newServiceRig(t)
			if c.change == nil {
				c.change = func(*http.Request) {}
			}
			w := r.call(c.path, c.body, c.change)
			if w.Code != c.want || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"urn:anteroom:problem:`+c.kind+`"`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			events := r.audit.take()
			if len(events) != 1 || events[0].Kind != "envelope-service" || events[0].Decision != "denied" {
				t.Errorf("events %+v", events)
			}
			for _, where := range []string{w.Body.String(), r.log.String(), fmt.Sprint(events)} {
				for _, word := range []string{secret, b64(secret), serviceToken, "p1001"} {
					if strings.Contains(where, word) {
						t.Errorf("%q stands in %s", word, where)
					}
				}
			}
		})
	}
}

// TestServiceGuard: invariant 7 holds here too; the table itself is loopback's.
func TestServiceGuard(t *testing.T) {
	r := newServiceRig(t)
	r.facts = func(f *loopback.Facts) { f.Header = http.Header{"Via": {"1.1 proxy"}} }
	if w := r.call("keys", `{}`); w.Code != 404 {
		t.Errorf("through a proxy: %d", w.Code)
	}
	if e := r.audit.take(); len(e) != 1 || e[0].Reason != "guard.trace" {
		t.Errorf("%+v", e)
	}
	r.facts = func(f *loopback.Facts) {
		a := netip.MustParseAddr("192.0.2.9")
		f.KernelRemote, f.Remote, f.Client = a, a, a
	}
	passed := false
	q := httptest.NewRequest("POST", "https://localhost"+ServicePath+"/v1/keys", strings.NewReader("{}"))
	r.Handle(httptest.NewRecorder(), q, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }))
	if !passed || len(r.audit.take()) != 0 {
		t.Error("a request from elsewhere is not passed on")
	}
}

// TestServiceFaults: what fails on our side is 503 with a time to come again, never a success and never in the clear.
func TestServiceFaults(t *testing.T) {
	value := func(r *serviceRig) string { return r.sealOne(t, "a", "b", "c") }
	for name, c := range map[string]struct {
		err    error
		reason string
	}{"the master key is away": {ErrUnavailable, "master.unavailable"}, "the master key refuses": {ErrRefused, "master.refused"}, "something else": {errors.New("secret fault"), "fault"}} {
		t.Run(name, func(t *testing.T) {
			r := newServiceRig(t)
			one, stream := value(r), string(sealed(t, letter, []byte("x")))
			r.audit.take()
			r.vault.err = c.err
			for path, body := range map[string]string{
				"seal":                                  `{"items":[{"purpose":"a","id":"b","plaintext":"eA=="}]}`,
				"open":                                  `{"items":[{"purpose":"a","id":"b","sealed":"` + one + `"}]}`,
				"reseal":                                `{"items":[{"purpose":"a","id":"b","sealed":"` + one + `"}]}`,
				"stream/seal?purpose=documents&id=d1":   "x",
				"stream/open?purpose=documents&id=d1":   stream,
				"stream/reseal?purpose=documents&id=d1": stream,
				"stream/reseal?purpose=documents&id=d1&header=only": stream[:len(stream)-17],
			} {
				w := r.call(path, body)
				if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "secret fault") {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
				if e := r.audit.take(); len(e) != 1 || e[0].Decision != "failed" || e[0].Reason != c.reason {
					t.Errorf("%s: %+v", path, e)
				}
			}
		})
	}
	t.Run("no record, no access", func(t *testing.T) {
		r := newServiceRig(t)
		one, stream := value(r), string(sealed(t, letter, []byte("clear text")))
		r.audit.err = errors.New("disk full")
		for path, body := range map[string]string{
			"open": `{"items":[{"purpose":"a","id":"b","sealed":"` + one + `"}]}`, "keys": `{}`,
			"stream/open?purpose=documents&id=d1": stream, "stream/seal?purpose=documents&id=d1": "x",
		} {
			if w := r.call(path, body); w.Code != 503 || strings.Contains(w.Body.String(), "clear text") || strings.Contains(w.Body.String(), b64("c")) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
	t.Run("too many at once", func(t *testing.T) {
		r := newServiceRig(t)
		for range maxStreams {
			r.streams <- struct{}{}
		}
		if w := r.call("stream/seal?purpose=a&id=b", "x"); w.Code != 503 {
			t.Errorf("%d", w.Code)
		}
		if w := r.call("keys", "{}"); w.Code != 200 {
			t.Errorf("a batch beside them: %d", w.Code)
		}
	})
}

// TestServiceStreamBreaks: a stream that is wrong behind its beginning is an error in the client, in HTTP/1.1 and HTTP/2.
func TestServiceStreamBreaks(t *testing.T) {
	r := newServiceRig(t)
	plain := random(40 * chunkLen)
	good := sealed(t, letter, plain)
	for _, h2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(r)
		srv.EnableHTTP2 = h2
		srv.StartTLS()
		t.Cleanup(srv.Close)
		ask := func(path string, body io.Reader) ([]byte, int, error) {
			q, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+ServicePath+"/v1/"+path, body)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Authorization", "Bearer "+serviceToken)
			q.Header.Set("Content-Type", "application/octet-stream")
			res, err := srv.Client().Do(q)
			if err != nil {
				return nil, 0, err
			}
			defer res.Body.Close()
			if (res.ProtoMajor == 2) != h2 {
				t.Errorf("HTTP/%d", res.ProtoMajor)
			}
			b, err := io.ReadAll(res.Body)
			return b, res.StatusCode, err
		}
		path := "stream/open?" + url.Values{"purpose": {"documents"}, "id": {"d1"}}.Encode()
		for _, size := range []int{0, 1, chunkLen, 40 * chunkLen} {
			stream, status, err := ask(strings.Replace(path, "open", "seal", 1), bytes.NewReader(plain[:size]))
			if err != nil || status != 200 {
				t.Fatalf("h2 %v: sealing %d bytes: %d, %v", h2, size, status, err)
			}
			if got, status, err := ask(path, bytes.NewReader(stream)); err != nil || status != 200 || !bytes.Equal(got, plain[:size]) {
				t.Errorf("h2 %v: opening %d bytes: %d, %d bytes, %v", h2, size, status, len(got), err)
			}
		}
		r.audit.take()
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		for name, stream := range map[string][]byte{"changed at its end": bad, "cut": good[:headerOf(good)+20*sealedChunk]} {
			got, status, err := ask(path, bytes.NewReader(stream))
			if err == nil {
				t.Errorf("h2 %v, %s: %d, %d bytes and a clean end", h2, name, status, len(got))
			}
			if !bytes.HasPrefix(plain, got) {
				t.Errorf("h2 %v, %s: bytes that are not the document's", h2, name)
			}
		}
		broken := 0
		for _, e := range r.audit.take() {
			if e.Decision == "denied" && e.Reason == "broken.sealed" {
				broken++
			}
		}
		if broken != 2 {
			t.Errorf("h2 %v: %d events of broken streams", h2, broken)
		}
		// An upload that breaks off is no document.
		got, _, err := ask(strings.Replace(path, "open", "seal", 1), io.MultiReader(bytes.NewReader(plain), errReader{}))
		if err == nil {
			t.Errorf("h2 %v: a broken upload ended well with %d bytes", h2, len(got))
		}
	}
}

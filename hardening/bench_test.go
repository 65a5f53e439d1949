package hardening

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// The cost of a batch beside that of its HMACs: BenchmarkLoop is the measure, 4096 HMACs of the same messages in a loop.
// `go test -run - -bench 'Loop|Batch|Single' ./hardening` shows lines at about twice that, and JSON at less than four times.

const benchContext = "portal-pin"

func benchSecret(i int) string { return fmt.Sprintf("$2b$12$%053d", i) } // a bcrypt hash has 60 characters

func benchUID(i int) string { return fmt.Sprintf("user-%06d", i) }

func benchWorld(b *testing.B) *world {
	w := newWorld(b, nil)
	if err := w.cfg.Limits.Set(1e8, 1e8); err != nil {
		b.Fatal(err)
	}
	w.cfg.Limits.callers.tokens, w.cfg.Limits.original.tokens = 1e15, 1e15
	w.cfg.Limits.burst = 1e15
	return w
}

func BenchmarkLoop4096(b *testing.B) {
	h := hmac.New(sha256.New, make([]byte, 32))
	salt, sum := make([]byte, saltSize), make([]byte, 0, 32)
	messages := make([][]byte, maxBatch)
	for i := range messages {
		for _, field := range []string{benchContext, benchUID(i), string(salt), benchSecret(i)} {
			messages[i] = lp(messages[i], field)
		}
	}
	for b.Loop() {
		for _, m := range messages {
			h.Reset()
			h.Write(m)
			sum = h.Sum(sum[:0])
		}
	}
}

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }

// nowhere takes an answer.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header { return n.h }

func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (n nowhere) WriteHeader(int) {}

func benchPost(b *testing.B, path, kind, body string) {
	w := benchWorld(b)
	check, again := httptest.NewRecorder(), make([]byte, len(body))
	post := func(to http.ResponseWriter) {
		copy(again, body) // a request is read in place
		r := &http.Request{Method: "POST", URL: mustURL(path), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: nopCloser{bytes.NewReader(again)}, ContentLength: int64(len(body)),
			Header: http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {kind}}}
		w.ServeHTTP(to, r.WithContext(context.Background()))
	}
	post(check)
	if check.Code != 200 {
		b.Fatal(check.Code, check.Body)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.events.list = w.events.list[:0]
		post(nowhere{http.Header{}})
	}
}

func BenchmarkBatchLines4096(b *testing.B) {
	var body strings.Builder
	for i := range maxBatch {
		body.WriteString(line(benchUID(i), benchContext, benchSecret(i)))
	}
	benchPost(b, pathProtect, "text/plain", body.String())
}

func BenchmarkBatchJSON4096(b *testing.B) {
	items := make([]string, maxBatch)
	for i := range items {
		items[i] = fmt.Sprintf(`{"uid":%q,"secret":%q,"context":%q,"slow":false}`, benchUID(i), benchSecret(i), benchContext)
	}
	benchPost(b, pathProtect, "application/json", `{"items":[`+strings.Join(items, ",")+`]}`)
}

func BenchmarkSingle(b *testing.B) {
	benchPost(b, pathProtect, "application/json", fmt.Sprintf(`{"items":[{"uid":%q,"secret":%q,"slow":false}]}`, benchUID(1), benchSecret(1)))
}

func BenchmarkSet4096(b *testing.B) {
	benchPost(b, pathProtect, "application/json", `{"uid":"u","set":["`+strings.Join(gesture(1024), `","`)+`"]}`)
}

func BenchmarkOriginal(b *testing.B) {
	w := benchWorld(b)
	r := &http.Request{Method: "GET", URL: mustURL(Path + "?correct+horse&1"), Header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		w.events.list = w.events.list[:0]
		w.ServeHTTP(nowhere{http.Header{}}, r)
	}
}

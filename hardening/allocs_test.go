package hardening

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/anteroom-proxy/anteroom/audit"
)

// reread is the body of a request that is sent again and again.
type reread struct {
	bytes.Reader
	text []byte
}

func (b *reread) Close() error { return nil }

func (b *reread) again() { b.Reset(b.text) }

// TestAllocations: what a request leaves on the heap is collected beside other requests, so that it is counted here. One more is a
// reason to look; the numbers are those of Go 1.26.
func TestAllocations(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.cfg.Limits.Set(1e8, 1e8); err != nil {
		t.Fatal(err)
	}
	w.cfg.Limits.callers.tokens, w.cfg.Limits.original.tokens = 1e8, 1e8
	w.cfg.Audit = audit.Off() // the list of events of a test grows
	slack := 0.0
	if forgetful() {
		slack = 15
	}
	var lines bytes.Buffer
	for i := range 100 {
		lines.WriteString(line(benchUID(i), benchContext, benchSecret(i)))
	}
	for name, c := range map[string]struct {
		method, target, kind, body string
		most                       float64
	}{
		"a record":       {"POST", pathProtect, kindJSON, fmt.Sprintf(`{"items":[{"uid":%q,"secret":%q,"slow":false}]}`, benchUID(1), benchSecret(1)), 1},
		"the original":   {"GET", Path + "?correct+horse&1", "", "", 4},
		"a batch of 100": {"POST", pathProtect, "text/plain", lines.String(), 21},
	} {
		body := &reread{text: []byte(c.body)}
		r, err := http.NewRequest(c.method, c.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.Body, r.ContentLength = w.facts.Host, io.ReadCloser(body), int64(len(c.body))
		r.Header.Set("Authorization", "Bearer "+testToken)
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		to := &counted{h: http.Header{}}
		got := testing.AllocsPerRun(200, func() {
			body.text = append(body.text[:0], c.body...) // a request is read in place
			body.again()
			w.ServeHTTP(to, r)
		})
		if to.status != 0 || to.bytes == 0 {
			t.Fatalf("%s: status %d, %d bytes", name, to.status, to.bytes)
		}
		if got > c.most+slack {
			t.Errorf("%s: %.0f allocations; want %.0f at most", name, got, c.most+slack)
		}
	}
}

// forgetful reports whether pools drop some of what they are given, as they do under the race detector.
func forgetful() bool {
	var p sync.Pool
	for range 100 {
		if p.Put(new(int)); p.Get() == nil {
			return true
		}
	}
	return false
}

// counted takes an answer and its length; status stays 0 when all is well.
type counted struct {
	h             http.Header
	status, bytes int
}

func (c *counted) Header() http.Header { return c.h }

func (c *counted) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

func (c *counted) WriteHeader(status int) { c.status = status }

// TestAnswersShareNoHeader: a handler around this one may change header values where they stand, as Caddy's `header` does.
func TestAnswersShareNoHeader(t *testing.T) {
	first, second := http.Header{}, http.Header{}
	answerHeaders(first, kindJSON, writtenAtOnce+1)
	for _, values := range first {
		values[0] = "spoiled"
		_ = append(values, "more")
	}
	answerHeaders(second, kindJSON, writtenAtOnce+1)
	want := http.Header{"Content-Type": {kindJSON}, "Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}, "Content-Length": {"1025"}}
	for name, values := range want {
		if got := second[name]; len(got) != 1 || got[0] != values[0] {
			t.Errorf("%s: %q", name, got)
		}
		if got := first[name]; len(got) != 1 || got[0] != "spoiled" {
			t.Errorf("%s was changed by its neighbour: %q", name, got)
		}
	}
	small := http.Header{}
	answerHeaders(small, kindLines, 10)
	if len(small) != 3 || small.Get("Content-Type") != kindLines {
		t.Errorf("%v", small)
	}
}

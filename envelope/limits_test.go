package envelope

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// limited is a service rig with a limit and a clock that stands still; what streams wait is added up.
func limited(t *testing.T, rate, burst int64) (r *serviceRig, clock *ticker, slept *time.Duration) {
	t.Helper()
	r, clock, slept = newServiceRig(t), newTicker(), new(time.Duration)
	limits, err := NewLimits(rate, burst, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	limits.sleep = func(_ context.Context, d time.Duration) error {
		*slept += d
		clock.add(d)
		return nil
	}
	r.cfg.Limits = limits
	return r, clock, slept
}

func sealBody(n int) string {
	return fmt.Sprintf(`{"items":[{"purpose":"p","id":"1","plaintext":%q}]}`, b64(strings.Repeat("x", n)))
}

// TestLimitValues: a batch above the limit is refused with 429 and the time to wait, after which it passes; nothing of it is
// sealed, and its refusal is recorded.
func TestLimitValues(t *testing.T) {
	r, clock, _ := limited(t, 100<<10, 300<<10)
	body := sealBody(96 << 10) // 128 KiB in base64
	passed := 0
	for range 10 {
		w := r.call("seal", body)
		switch w.Code {
		case 200:
			passed++
			continue
		case 429:
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		after, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if err != nil || after < 1 || after > 2 || strings.Contains(w.Body.String(), "sealed\"") {
			t.Fatalf("%v %s", w.Header(), w.Body)
		}
		clock.add(time.Duration(after) * time.Second)
		if w := r.call("seal", body); w.Code != 200 {
			t.Errorf("after the wait: %d", w.Code)
		}
		break
	}
	if passed != 2 {
		t.Errorf("%d batches of 128 KiB passed with a burst of 300 KiB", passed)
	}
	events := r.audit.take()
	if e := events[passed]; e.Decision != "denied" || e.Reason != "limit" || e.ClientID != "token" {
		t.Errorf("event %+v", e)
	}
	// Small requests cost more than their bytes; one of unknown length is counted too.
	clock.add(time.Hour)
	passed = 0
	for r.call("keys", "{}", func(q *http.Request) { q.ContentLength = -1 }).Code == 200 {
		passed++
	}
	if passed != (300<<10)/smallest {
		t.Errorf("%d small requests passed", passed)
	}
	// A wrong caller spends nothing.
	clock.add(time.Hour)
	for range 1000 {
		r.call("keys", "{}", func(q *http.Request) { q.Header.Del("Authorization") })
	}
	if w := r.call("seal", body); w.Code != 200 {
		t.Errorf("after refused callers: %d", w.Code)
	}
	// A batch larger than the burst passes when the bucket is full, and leaves a debt.
	clock.add(time.Hour)
	if w := r.call("seal", sealBody(600<<10)); w.Code != 200 {
		t.Errorf("a batch above the burst: %d", w.Code)
	}
	clock.add(2 * time.Second)
	if w := r.call("keys", "{}"); w.Code != 429 {
		t.Errorf("behind it: %d", w.Code)
	}
}

// TestLimitStreams: a stream is slowed down to the rate, comes through whole, and leaves the values alone; a new one is refused
// while the others are far behind.
func TestLimitStreams(t *testing.T) {
	const rate, size = 256 << 10, 4 << 20
	r, clock, slept := limited(t, rate, 0)
	w := r.call("stream/seal?purpose=p&id=1", strings.Repeat("x", size))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if want := time.Duration(size/rate-1) * time.Second; *slept < want || *slept > want+time.Second {
		t.Errorf("it waited %s, want %s", *slept, want)
	}
	if w := r.call("keys", "{}"); w.Code != 200 {
		t.Errorf("a small request beside a stream: %d", w.Code)
	}
	clock.add(time.Minute)
	if w := r.call("stream/open?purpose=p&id=1", w.Body.String()); w.Code != 200 || w.Body.Len() != size {
		t.Errorf("open: %d, %d bytes", w.Code, w.Body.Len())
	}
	r.cfg.Limits.slow(10 * rate)
	w = r.call("stream/seal?purpose=p&id=1", "x")
	if after, err := strconv.Atoi(w.Header().Get("Retry-After")); w.Code != 429 || err != nil || after < 5 || after > 12 {
		t.Errorf("a new stream: %d %v", w.Code, w.Header())
	}
	// A client that goes away does not wait to the end.
	r, _, _ = limited(t, rate, 0)
	r.cfg.Limits.sleep = sleepFor
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	func() {
		defer func() { _ = recover() }()
		r.call("stream/seal?purpose=p&id=1", "", func(q *http.Request) {
			*q = *q.WithContext(ctx)
			q.Body = io.NopCloser(bytes.NewReader(make([]byte, 64<<20)))
		})
	}()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it waited %s for nobody", took)
	}
}

// TestLimitNumbers: no limit is none, and wrong numbers are refused.
func TestLimitNumbers(t *testing.T) {
	for _, n := range [][2]int64{{1, 0}, {-1, 0}, {MinRate - 1, 0}, {MaxRate + 1, 0}, {MinRate, -1}, {MinRate, MaxRate + 1}, {0, 1}} {
		if _, err := NewLimits(n[0], n[1], nil); err == nil {
			t.Errorf("%v is taken", n)
		}
	}
	l, err := NewLimits(0, 0, nil)
	if err != nil || l.spend(1<<40) != nil || l.enter() != nil || l.slow(1<<30) != 0 {
		t.Errorf("no limit limits: %v", err)
	}
	if err := l.Set(MinRate, 0); err != nil || l.spend(MinRate) != nil || l.spend(MinRate) == nil {
		t.Errorf("a limit that was set limits nothing: %v", err)
	}
	if err := l.Set(0, 0); err != nil || l.spend(1<<40) != nil {
		t.Errorf("a limit that was taken away limits: %v", err)
	}
}

// Row 154: what does not open in a batch has its event: ring, key, caller, reason and number, one for each reason however many
// items there are, and never a value or an id.
func TestRow154DeclinedItems(t *testing.T) {
	r := newServiceRig(t)
	r.cfg.Ring = "apps"
	sealed := r.sealOne(t, "notes", "p1001", "a finding")
	r.audit.take()
	item := func(id string) string { return fmt.Sprintf(`{"purpose":"notes","id":%q,"sealed":%q}`, id, sealed) }
	batch := func(n, good int) string {
		var items []string
		for i := range n {
			items = append(items, item(fmt.Sprint("stranger-", i)))
		}
		for range good {
			items = append(items, item("p1001"))
		}
		return `{"items":[` + strings.Join(items, ",") + `]}`
	}
	for _, op := range []string{"open", "reseal"} {
		if w := r.call(op, batch(100, 3)); w.Code != 200 {
			t.Fatalf("%s: %d", op, w.Code)
		}
		events := r.audit.take()
		if len(events) != 2 {
			t.Fatalf("%s: %d events", op, len(events))
		}
		no, yes := events[0], events[1]
		if no.Kind != "envelope-service" || no.Decision != "denied" || no.Reason != "sealed" || no.Count != 100 || no.ClientID != "token" || no.Rule != "ring apps key 0707070707070707" {
			t.Errorf("%s: %+v", op, no)
		}
		if yes.Decision != "allowed" || yes.Count != 3 || yes.Rule != "" {
			t.Errorf("%s: %+v", op, yes)
		}
		if w := r.call(op, batch(1, 0)); w.Code != 200 {
			t.Fatalf("%s: %d", op, w.Code)
		}
		if events := r.audit.take(); len(events) != 1 || events[0].Decision != "denied" || strings.Contains(fmt.Sprint(events), "stranger") {
			t.Errorf("%s of one that does not open: %+v", op, events)
		}
		r.audit.err = errAudit
		if w := r.call(op, batch(1, 1)); w.Code != 503 {
			t.Errorf("%s without an audit log: %d", op, w.Code)
		}
		r.audit.err = nil
	}
	stream := r.call("stream/seal?purpose=p&id=1", "x").Body.String()
	r.audit.take()
	if w := r.call("stream/open?purpose=p&id=2", stream); w.Code != 422 {
		t.Errorf("a stream of another record: %d", w.Code)
	}
	if e := r.audit.take(); len(e) != 1 || e[0].Reason != "sealed" || e[0].Rule != "ring apps key 0707070707070707" {
		t.Errorf("a stream of another record: %+v", e)
	}
	s := r.cfg.Limits.Stats()
	want := "[{open allowed 1} {open denied 2} {reseal allowed 1} {reseal denied 2} {seal allowed 1} {stream-open denied 1} {stream-seal allowed 1}]"
	if got := fmt.Sprint(s.Operations); !strings.Contains(got, "{open allowed 1}") || !strings.Contains(got, "{stream-open denied 1}") {
		t.Errorf("operations %s, want something like %s", got, want)
	}
	if got := fmt.Sprint(s.Declines); !strings.Contains(got, "{sealed  20") {
		t.Errorf("declines %s", got)
	}
	if got := fmt.Sprint(s.Bytes); !strings.Contains(got, "{open ") || !strings.Contains(got, "{stream-seal  1}") {
		t.Errorf("bytes %s", got)
	}
}

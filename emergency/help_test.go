package emergency

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// clock is a settable time.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// trace remembers what happened in which order.
type trace struct {
	mu   sync.Mutex
	what []string
}

func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.what = append(t.what, fmt.Sprintf(format, args...))
}

func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.what
	t.what = nil
	return taken
}

// tracedStore counts calls, notes writes and can fail.
type tracedStore struct {
	store.Store
	trace *trace
	mu    sync.Mutex
	calls int
	fail  func(call, key string) bool
}

func (s *tracedStore) enter(call, key string) error {
	s.mu.Lock()
	s.calls++
	fail := s.fail
	s.mu.Unlock()
	if fail != nil && fail(call, key) {
		return fmt.Errorf("test: %w", store.ErrUnavailable)
	}
	return nil
}

func (s *tracedStore) failing(fail func(call, key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *tracedStore) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.calls
	s.calls = 0
	return n
}

func (s *tracedStore) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.enter("get", key); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *tracedStore) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if err := s.enter("swap", key); err != nil {
		return err
	}
	err := s.Store.CompareAndSwap(ctx, key, old, new, expires)
	if err == nil {
		label, _, _ := strings.Cut(strings.TrimPrefix(key, "anteroom/emergency/"), "/")
		s.trace.note("store %s", label)
	}
	return err
}

func (s *tracedStore) Delete(ctx context.Context, key string) error {
	if err := s.enter("delete", key); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// List is what the book must not need.
func (s *tracedStore) List(context.Context, string) ([]store.Item, error) {
	panic("the whole store is read")
}

// log is an audit log that keeps its events and can fail.
type log struct {
	trace  *trace
	mu     sync.Mutex
	events []audit.Event
	fail   bool
}

func (l *log) Record(_ context.Context, e audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail {
		return fmt.Errorf("test: %w", audit.ErrUnavailable)
	}
	l.trace.note("audit %s %s", e.Kind, e.Decision)
	l.events = append(l.events, e)
	return nil
}

func (l *log) failing(fail bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *log) taken() []audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

// webhook takes alarms and can fail.
type webhook struct {
	trace *trace
	mu    sync.Mutex
	ids   []string
	body  []string
	fail  int // the status that it answers
	tries int
}

func (h *webhook) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries++
	status := http.StatusNoContent
	if h.fail != 0 {
		status = h.fail
	} else {
		h.trace.note("alarm")
		h.ids = append(h.ids, r.Header.Get("Idempotency-Key"))
		h.body = append(h.body, string(body))
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
}

func (h *webhook) failing(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = status
}

func (h *webhook) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := h.ids
	h.ids = nil
	slices.Sort(ids)
	return ids
}

// rig is nodes that share a store, an audit log (for the test's sake) and a webhook.
type rig struct {
	*testing.T
	clock   *clock
	trace   *trace
	store   *tracedStore
	sealer  Sealer
	audit   *log
	webhook *webhook
	dir     string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	c, tr, dir := &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 678e6, time.UTC)}, new(trace), t.TempDir()
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store", "test.db"), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	master, err := envelope.OpenLocal(filepath.Join(dir, "master", "key"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Start(t.Context(), envelope.Config{Name: "own", Master: master, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t, c, tr, &tracedStore{Store: s, trace: tr}, e, &log{trace: tr}, &webhook{trace: tr}, dir}
}

// node is a ledger whose alarms go to the webhook. told waits until they went or were given up.
func (r *rig) node() (l *Ledger, told func()) {
	r.Helper()
	a, err := alarm.New(alarm.Config{Webhook: "https://alarm.test/", Client: &http.Client{Transport: r.webhook}, Now: r.clock.now})
	if err != nil {
		r.Fatal(err)
	}
	return r.with(a), func() { _ = a.Close() }
}

func (r *rig) with(a *alarm.Alarm) *Ledger {
	r.Helper()
	l, err := New(Config{Store: r.store, Sealer: r.sealer, Audit: r.audit, Alarm: a, Now: r.clock.now})
	if err != nil {
		r.Fatal(err)
	}
	return l
}

const (
	sid  = "SID-OF-DANA-THAT-NOBODY-MAY-SEE"
	site = "app.test"
)

// grant is dana's access to one patient for half an hour.
func (r *rig) grant(patient string, cookies ...string) Grant {
	return Grant{
		Site: site, Source: "idp", Subject: "1", Username: "dana", Roles: []string{"doctor"}, Session: sid,
		Rule: "break_glass role doctor on /patients/** for 30m", Route: "/patients/**", Scope: "/patients/" + patient, Patient: patient,
		ReasonCode: "unconscious", ReasonText: "brought in by ambulance, not answering",
		Until: r.clock.now().Add(30 * time.Minute), Client: "192.0.2.7", Cookies: cookies,
	}
}

// begin returns the Cookie line that a browser then sends, and the id.
func (r *rig) begin(l *Ledger, g Grant) (line, id string) {
	r.Helper()
	c, id, err := l.Begin(context.Background(), g)
	if err != nil {
		r.Fatal(err)
	}
	return lineOf(c), id
}

func lineOf(c *http.Cookie) string { return "a=b; " + c.Name + "=" + c.Value + "; c=d" }

// active returns the patients of the grants that hold.
func (r *rig) active(l *Ledger, line string) (patients []string) {
	for _, a := range l.Active(context.Background(), []string{line}, sid, site, r.clock.now()) {
		patients = append(patients, a.Patient)
	}
	return patients
}

func (r *rig) wantActive(l *Ledger, line string, want ...string) {
	r.Helper()
	if got := r.active(l, line); !slices.Equal(got, want) {
		r.Errorf("active: %q, want %q", got, want)
	}
}

func (r *rig) list(l *Ledger, state string) []Review {
	r.Helper()
	all, err := l.List(context.Background(), state)
	if err != nil {
		r.Fatal(err)
	}
	return all
}

func (r *rig) sweep(all ...*Ledger) {
	r.Helper()
	for _, l := range all {
		if err := l.Sweep(context.Background()); err != nil {
			r.Error(err)
		}
	}
}

func (r *rig) wantError(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Errorf("error %v, want %v", err, want)
	}
}

func reasonsOf(events []audit.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Kind+" "+e.Decision+" "+e.Reason)
	}
	return all
}

// Accept and Reject are the two verdicts of Review in few words.
func (l *Ledger) Accept(ctx context.Context, id, reviewer, comment string) error {
	_, err := l.Review(ctx, Verdict{ID: id, Accept: true, Reviewer: reviewer, Comment: comment})
	return err
}

func (l *Ledger) Reject(ctx context.Context, id, reviewer, comment string) error {
	_, err := l.Review(ctx, Verdict{ID: id, Reviewer: reviewer, Comment: comment})
	return err
}

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

const (
	deskToken  = "alarm-token-0123456789abcdef"
	cookieOpen = "__Host-anteroom-emergency"
)

// desk takes alarms, as a hospital's security operations do. Nobody else is told of them.
type desk struct {
	url string

	mu     sync.Mutex // guards what follows
	closed bool       // answers 503
	got    []alarmed
	wrong  []string
}

// alarmed is one document that was posted.
type alarmed struct {
	ID, Kind, Ref, Site, Who, Subject, Rule, Reason string
	Roles                                           []string
	Count, Limit                                    int
	Drill                                           bool
	Stale                                           bool `json:"without_fresh_sign_in"`
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	d.url = server.URL + "/alarms"
	return d
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	var a alarmed
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	switch {
	case d.closed:
		w.WriteHeader(http.StatusServiceUnavailable)
	case err != nil || r.Method != http.MethodPost || r.URL.Path != "/alarms" || r.Header.Get("Authorization") != "Bearer "+deskToken ||
		r.Header.Get("Idempotency-Key") != a.ID || a.ID == "" || r.Header.Get("Cookie") != "":
		d.wrong = append(d.wrong, fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body))
		w.WriteHeader(http.StatusBadRequest)
	default:
		d.got = append(d.got, a)
	}
}

func (d *desk) open(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = !yes
}

// heard returns the alarms of a kind, and fails the test for a post that was none.
func (d *desk) heard(t testing.TB, kind string) []alarmed {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.wrong) > 0 {
		t.Fatalf("posted to the alarm desk: %v", d.wrong)
	}
	return slices.DeleteFunc(slices.Clone(d.got), func(a alarmed) bool { return a.Kind != kind })
}

// hears waits until n alarms of a kind have come.
func (d *desk) hears(t testing.TB, kind string, n int) []alarmed {
	t.Helper()
	eventually(t, patience, func() error {
		if got := d.heard(t, kind); len(got) != n {
			return fmt.Errorf("%d alarms of the kind %s, want %d", len(got), kind, n)
		}
		return nil
	})
	return d.heard(t, kind)
}

// newGuarded starts nodes on one Redis whose alarms go to a desk.
func newGuarded(t testing.TB, n int, server *redistest.Server, caddyfile string) (*hall, *desk) {
	t.Helper()
	d := newDesk(t)
	h := prepareHall(t, n, server, caddyfile, "DESK", d.url)
	for i, node := range h.nodes {
		write(t, filepath.Join(node.dir, "alarm.token"), deskToken)
		h.start(t, i)
	}
	h.nodes[0].op.ready(t)
	return h, d
}

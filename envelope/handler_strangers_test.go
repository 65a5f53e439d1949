package envelope

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/loopback"
)

// TestServiceStrangersFillNoDisk: of a program of this host without the credential only so many refusals are written down one by
// one, and the rest as a number. Whoever showed the credential is recorded each time.
func TestServiceStrangersFillNoDisk(t *testing.T) {
	r := newServiceRig(t)
	clock := time.Unix(1_800_000_000, 0)
	var err error
	if r.cfg.Limits, err = NewLimits(0, 0, func() time.Time { return clock }); err != nil {
		t.Fatal(err)
	}
	wrong := func(q *http.Request) { q.Header.Del("Authorization") }
	const more = 300
	for range loopback.FloodAfter + more {
		if w := r.call("open", `{}`, wrong); w.Code != 401 {
			t.Fatal(w.Code)
		}
	}
	if n := len(r.audit.take()); n != loopback.FloodAfter {
		t.Errorf("%d records", n)
	}
	if n := strings.Count(r.log.String(), "\n"); n > loopback.FloodAfter+10 {
		t.Errorf("%d lines of log", n)
	}
	if w := r.call("open", `{}`, wrong); strings.Contains(w.Body.String(), "ref") {
		t.Errorf("a reference number of no record: %s", w.Body)
	}
	for range 3 {
		r.call("open", `{`)
	}
	if n := len(r.audit.take()); n != 3 {
		t.Errorf("%d records of a caller with the credential", n)
	}
	clock = clock.Add(loopback.FloodWindow)
	r.call("open", `{}`, wrong)
	if list := r.audit.take(); len(list) != 2 || list[0].Reason != "flood" || list[0].Count != more+1 || list[1].Reason != "credential" {
		t.Errorf("after the window: %+v", list)
	}
}

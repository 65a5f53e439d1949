package hardening

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
)

// TestStrangersFillNoDisk: a program of this host without the credential has a bounded number of its refusals written down one by
// one, and the rest as a number: a full disk would close every site. Whoever showed the credential is recorded each time.
func TestStrangersFillNoDisk(t *testing.T) {
	w := newWorld(t, nil)
	const more = 500
	ask := func(i int) int {
		switch i % 3 {
		case 0:
			return w.do("POST", Path+"/v1/verify", "{}").Code // 401
		case 1:
			return w.do("GET", Path+"?%zz", "").Code // 400
		}
		return w.do("POST", Path+"/v1/verify", "{}", "Via", "1.1 x").Code // 404
	}
	for i := range loopback.FloodAfter + more {
		if got := ask(i); got != []int{401, 400, 404}[i%3] {
			t.Fatalf("request %d was answered %d", i, got)
		}
	}
	if n := len(w.events.list); n != loopback.FloodAfter {
		t.Errorf("%d records", n)
	}
	if log := strings.Count(w.log.String(), "\n"); log > loopback.FloodAfter+10 {
		t.Errorf("%d lines of log", log)
	}
	if rec := w.do("POST", Path+"/v1/verify", "{}"); strings.Contains(rec.Body.String(), "ref") {
		t.Errorf("a reference number of no record: %s", rec.Body)
	}
	before := len(w.events.list)
	for range 3 {
		w.post("verify", "{}")
	}
	if n := len(w.events.list) - before; n != 3 {
		t.Errorf("%d records of a caller with the credential", n)
	}
	w.clock.add(loopback.FloodWindow + time.Second)
	ask(0)
	list := w.events.list[before+3:]
	if len(list) != 2 || list[0].Reason != "flood" || list[0].Count != more+1 || list[0].Decision != "denied" || list[1].Reason != "credential" {
		t.Errorf("after the window: %+v", list)
	}
}

// strict takes no event of a request that is over, as the audit log does.
type strict struct{ *events }

func (s strict) Record(ctx context.Context, e audit.Event) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.events.Record(ctx, e)
}

// TestGoneCallerLeavesHisEvent: whoever hangs up while his guess is being evaluated has it counted, and written down.
func TestGoneCallerLeavesHisEvent(t *testing.T) {
	w := newWorld(t, nil)
	w.cfg.Audit = strict{w.events}
	ctx, hangUp := context.WithCancel(t.Context())
	st := w.node.cfg.Store.(*faults)
	st.beforeCAS = hangUp // the try is being counted
	r := httptest.NewRequestWithContext(ctx, "POST", Path+"/v1/verify", strings.NewReader(`{"uid":"alice","secret":"guess","record":"-none"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+testToken)
	w.ServeHTTP(httptest.NewRecorder(), r)
	if len(w.events.list) == 0 || w.events.last().Subject != w.node.held().uidKey([]byte("alice")).String() {
		t.Errorf("events: %+v", w.events.list)
	}
}

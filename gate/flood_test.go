package gate

import (
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"
)

// TestFloodOfStrangersIsCounted: one machine without a session asks as fast as it can. One record each would fill the disk, and
// a full disk refuses everybody. From the thousandth in ten seconds on they are counted, and the sum is recorded; another
// address and a signed-in person lose nothing, and the answer stays the same.
func TestFloodOfStrangersIsCounted(t *testing.T) {
	clock := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	log := new(recorder)
	sessions, _ := newSessions(t, time.Now)
	g, err := New(Config{
		Policy: compile(t, rules...), Sessions: sessions, Now: func() time.Time { return clock },
		Audit: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(from string) string {
		r := httptest.NewRequest("GET", "/members/x", nil)
		r.TLS, r.Host, r.RemoteAddr = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: site}, site, from+":1234"
		w := httptest.NewRecorder()
		g.Handle(w, r, nil)
		return fmt.Sprint(w.Code, w.Header().Get("WWW-Authenticate"))
	}
	first := ask("192.0.2.1")
	for range floodAfter + 500 - 1 {
		if got := ask("192.0.2.1"); got != first {
			t.Fatalf("the answer became %s", got)
		}
	}
	if events := log.take(); len(events) != floodAfter {
		t.Fatalf("%d records in the window, want %d", len(events), floodAfter)
	}
	ask("192.0.2.2")
	if e := log.take()[0]; e.Client != "192.0.2.2" || e.Count != 0 {
		t.Fatalf("another address got %+v", e)
	}
	clock = clock.Add(floodWindow)
	ask("192.0.2.1")
	if events := log.take(); len(events) != 2 || events[0].Count != 500 || events[0].Client != "192.0.2.1/32" || events[0].Reason != reasonFlood || events[1].Count != 0 {
		t.Fatalf("after the window: %+v", events)
	}
}

// TestFloodFromManyAddresses: the table of addresses is bounded; those who find no place share one count.
func TestFloodFromManyAddresses(t *testing.T) {
	clock := time.Unix(1, 0)
	f := &flood{now: func() time.Time { return clock }}
	recorded := 0
	for i := range 2 * floodAddrs {
		if record, _ := f.refused(fmt.Sprintf("10.0.%d.%d", i/256, i%256)); record {
			recorded++
		}
	}
	if recorded != floodAddrs+floodAfter || len(f.counts) > floodAddrs+1 {
		t.Fatalf("%d recorded, %d addresses kept", recorded, len(f.counts))
	}
	for _, same := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::1%eth0"} {
		if floodKey(same).String() != "2001:db8::/64" {
			t.Errorf("%s is counted under %s", same, floodKey(same))
		}
	}
	clock = clock.Add(-time.Hour) // a clock that was set back ends the window too
	if record, ended := f.refused("10.0.0.1"); !record || len(ended) != 1 || ended[0].addr.IsValid() || ended[0].count != floodAddrs-floodAfter {
		t.Errorf("%v %+v", record, ended)
	}
}

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
)

// What was acknowledged survives: sessions a restart, sign-outs a kill -9.

func TestRestartKeepsSessions(t *testing.T) {
	r := newRig(t, standard)
	dana, ada := r.person(t, appHost, "dana"), r.person(t, appHost, "admin")
	r.signOut(t, appHost, ada)
	for _, end := range []struct {
		name string
		stop func()
	}{{"a stop", func() { r.proc.stop(t) }}, {"a kill -9", func() { r.proc.kill() }}} {
		end.stop()
		r.run(t)
		if status := r.status(t, appHost, "/members/x", dana); status != http.StatusOK {
			t.Errorf("a session is answered %d after %s", status, end.name)
		}
		if status := r.status(t, appHost, "/members/x", ada); status != http.StatusUnauthorized {
			t.Errorf("both copied cookies of a sign-out are answered %d after %s", status, end.name)
		}
	}
}

// TestKill signs people out while the process is killed, again and again. A sign-out that was answered must hold for both
// copied cookies ever after; one that was not answered may go either way.
func TestKill(t *testing.T) {
	const rounds, perRound = 10, 8
	r := newRig(t, standard)
	control := r.person(t, appHost, "dana")
	var acknowledged []*session
	cut := 0 // sign-outs that the kill left unanswered
	for round := range rounds {
		people := make([]*session, perRound)
		for i := range people {
			people[i] = r.person(t, appHost, "pat")
		}
		acks := make(chan *session, perRound)
		var workers sync.WaitGroup
		for _, who := range people {
			workers.Go(func() {
				if err := r.tryToSignOut(t, who); err == nil {
					acks <- who
				}
			})
		}
		for range 1 + rand.IntN(perRound-2) { // some are answered, and then it dies amid the others
			select {
			case who := <-acks:
				acknowledged = append(acknowledged, who)
			case <-time.After(patience):
				t.Fatalf("round %d: no sign-out is answered", round)
			}
		}
		r.proc.kill()
		workers.Wait()
		close(acks)
		for who := range acks {
			acknowledged = append(acknowledged, who)
		}
		cut = (round+1)*perRound - len(acknowledged)
		r.run(t)
		for i, who := range acknowledged {
			if status := r.status(t, appHost, "/members/x", who); status != http.StatusUnauthorized {
				t.Fatalf("round %d: sign-out %d of %d was acknowledged; its cookies are answered %d after kill -9", round, i, len(acknowledged), status)
			}
		}
		if status := r.status(t, appHost, "/members/x", control); status != http.StatusOK {
			t.Fatalf("round %d: a session that nobody ended is answered %d", round, status)
		}
	}
	t.Logf("%d sign-outs were acknowledged and %d cut off", len(acknowledged), cut)
	if len(acknowledged) < rounds || cut == 0 {
		t.Errorf("%d sign-outs were acknowledged and %d cut off: the kill did not hit them at work", len(acknowledged), cut)
	}
	r.chain(t)
}

// tryToSignOut posts the sign-out form; nil means that the answer came.
func (r *rig) tryToSignOut(t testing.TB, who *session) error {
	req := navigation(t, http.MethodPost, r.url(appHost, "/.anteroom/logout"), "")
	req.Header.Set("Cookie", strings.TrimPrefix(who.line(), "Cookie: "))
	res, err := newBrowser(t).client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// chain checks that the audit log hangs together: no hole, no change.
func (r *rig) chain(t testing.TB) {
	t.Helper()
	dir := filepath.Join(r.dataDir(), "anteroom", "audit")
	if _, err := audit.Verify(dir); err != nil {
		t.Errorf("the audit log: %v", err)
	}
	if len(readAudit(t, dir)) == 0 {
		t.Error("the audit log is empty")
	}
}

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
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
		var mu sync.Mutex
		var workers sync.WaitGroup
		began := make(chan struct{})
		for _, who := range people {
			workers.Go(func() {
				<-began
				if err := r.tryToSignOut(t, who); err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, who)
					mu.Unlock()
				}
			})
		}
		close(began)
		time.Sleep(time.Duration(rand.IntN(25)) * time.Millisecond)
		r.proc.kill()
		workers.Wait()
		cut += (round+1)*perRound - len(acknowledged) - cut
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
	if len(acknowledged) < rounds || cut == 0 {
		t.Errorf("%d sign-outs were acknowledged and %d cut off: the kill did not hit them at work", len(acknowledged), cut)
	}
	if problems := chain(r.audit(t)); problems != "" {
		t.Errorf("the audit log after %d kills: %s", rounds, problems)
	}
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

// chain checks the sequence numbers of an audit log: each once, in order, none missing.
func chain(records []record) string {
	for i, rec := range records {
		if seq, ok := rec["seq"].(float64); !ok || int(seq) != i+1 {
			return fmt.Sprintf("record %d has the sequence number %v", i+1, rec["seq"])
		}
	}
	if len(records) == 0 {
		return "it is empty"
	}
	return ""
}

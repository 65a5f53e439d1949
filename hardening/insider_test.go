package hardening

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestA104OwnRecordForgetsNoFailures: row 104, for somebody who holds the callers' credential and a copy of the table. Between
// his guesses he signs in to a record of the same uid that he made himself.
func TestA104OwnRecordForgetsNoFailures(t *testing.T) {
	w := newWorld(t, nil)
	victim, own := fastRecord(t, w.Service, "alice", "right"), fastRecord(t, w.Service, "alice", "mine")
	evaluated := 0
	for i := range 2 * hardStop {
		if i%5 == 0 {
			if got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "mine"}, Record: own, Source: "s"}); err != nil || !got.Match {
				t.Fatal(got, err)
			}
		}
		if _, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "guess"}, Record: victim, Source: "s"}); err == nil {
			evaluated++
		}
		w.clock.add(1100 * time.Millisecond)
	}
	if evaluated > hardStop {
		t.Errorf("%d guesses were evaluated, want %d at most", evaluated, hardStop)
	}
}

// TestA104ImportedDigestHasOneCount: an imported digest is bound to no uid; guesses at it under ever new uids are counted
// together, also once a newer pepper lies over it.
func TestA104ImportedDigestHasOneCount(t *testing.T) {
	w := newWorld(t, nil)
	digest, err := w.Original(t.Context(), []byte("right"), 2)
	if err != nil {
		t.Fatal(err)
	}
	ring := w.node.held()
	rec := record{ring: ring.file.Ring, layers: []string{ring.body.Compat}, rounds: 2}
	if rec.tag, err = hex.DecodeString(digest); err != nil {
		t.Fatal(err)
	}
	evaluated := 0
	for i := range freeFailures + 3 {
		got, err := w.Verify(t.Context(), Verification{Item: Item{UID: fmt.Sprint("u", i), Secret: "guess"}, Record: rec.String()})
		switch {
		case err == nil && !got.Match:
			evaluated++
		case !errors.Is(err, ErrLimited):
			t.Fatal(got, err)
		}
	}
	if evaluated != freeFailures {
		t.Errorf("%d guesses were evaluated", evaluated)
	}
}

// TestA105KnownSourceStaysKnown: the better record that a sign-in answers knows the source that it was made for: who guesses
// meanwhile does not lock the owner out.
func TestA105KnownSourceStaysKnown(t *testing.T) {
	w := newWorld(t, nil)
	old := fastRecord(t, w.Service, "alice", "right")
	rotateNow(t, w)
	owner := Verification{Item: Item{UID: "alice", Secret: "right"}, Record: old, Source: "home"}
	got, err := w.Verify(t.Context(), owner)
	if err != nil || got.Record == "" {
		t.Fatal(got, err)
	}
	for i := range 2 * hardStop {
		_, _ = w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "guess"}, Record: got.Record, Source: fmt.Sprint(i)})
	}
	if _, err := w.Verify(t.Context(), Verification{Item: owner.Item, Record: got.Record, Source: "elsewhere"}); !errors.Is(err, ErrLimited) {
		t.Errorf("a stranger: %v", err)
	}
	owner.Record = got.Record
	if got, err := w.Verify(t.Context(), owner); err != nil || !got.Match {
		t.Errorf("the owner: %+v, %v", got, err)
	}
}

// TestLayerIsOfWhatLiesBelow: a leaked pepper was closed. Somebody who knows it and can write to the table forges what it
// would give, passes that off as the tag of a pepper that is open, lets the application's next upgrade lay the newest pepper
// over it, and writes the true name under the result.
func TestLayerIsOfWhatLiesBelow(t *testing.T) {
	for name, forge := range map[string]func(pepper []byte, rec *record){
		"slow": func(pepper []byte, rec *record) {
			rec.tag = innerTag(pepper, "", "alice", rec.salt, slowHash("forged", rec.salt))
		},
		"set": func(pepper []byte, rec *record) {
			rec.entries = 1
			rec.tag = hmacOf(hmacOf(pepper, []byte(labelSet)), lp(lp(lp(lp(nil, ""), "alice"), rec.salt), "forged"))[:digestSize]
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			rotateNow(t, w) // p1 leaks, p2 is the newest
			rec := record{ring: w.node.held().file.Ring, layers: []string{"p2"}, salt: newSalt()}
			forge(w.node.held().key("p1"), &rec)
			w.clock.add(time.Second)
			if _, err := w.node.Count(t.Context(), "", []string{rec.String()}, true); err != nil {
				t.Fatal(err)
			}
			w.clock.add(time.Second)
			if _, err := w.node.Close(t.Context(), "p1"); err != nil {
				t.Fatal(err)
			}
			rotateNow(t, w)
			up, err := w.Upgrade(t.Context(), []string{rec.String()})
			if err != nil || up[0].Err != nil || !up[0].Changed {
				t.Fatal(up, err)
			}
			for _, layers := range []string{"l=p1.p3", "l=p1.p2.p3"} {
				text := strings.Replace(up[0].Record, "l=p2.p3", layers, 1)
				if w.matches(t, "alice", "", "forged", text) {
					t.Errorf("%s verifies", layers)
				}
			}
		})
	}
}

// TestPlantedRoundsLeaveNoDebt: whoever can write to the table gives his own row a million rounds. That costs what it costs,
// and nobody's sign-in waits for hours afterwards.
func TestPlantedRoundsLeaveNoDebt(t *testing.T) {
	w := newWorld(t, nil)
	ring := w.node.held()
	rec := record{ring: ring.file.Ring, layers: []string{ring.body.Compat}, rounds: maxRoundsCap, tag: make([]byte, tagSize)}
	if got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "mallory", Secret: "x"}, Record: rec.String()}); err != nil || got.Match {
		t.Fatal(got, err)
	}
	w.clock.add(time.Second)
	if tokens := w.cfg.Limits.callers.tokens; tokens < 0 {
		t.Errorf("a debt of %v units", -tokens)
	}
	if w.matches(t, "alice", "", "x", "-none") {
		t.Error("a match")
	}
}

// TestUpgradeIsDueForImportedDigests: a compromised key of the original form alone covers a record: the application hears of it.
func TestUpgradeIsDueForImportedDigests(t *testing.T) {
	w := newWorld(t, nil)
	ring := w.node.held()
	rec := record{ring: ring.file.Ring, layers: []string{ring.body.Compat}, rounds: 1, tag: make([]byte, tagSize)}
	w.clock.add(time.Second)
	if _, err := w.node.Compromise(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	due := func(record string) bool {
		w.clock.add(time.Second)
		if _, err := w.node.Count(t.Context(), "", []string{record}, true); err != nil {
			t.Fatal(err)
		}
		return w.node.Status().UpgradeDue
	}
	if !due(rec.String()) {
		t.Error("no upgrade is due for a record under a compromised key alone")
	}
	up, err := w.Upgrade(t.Context(), []string{rec.String()})
	if err != nil || up[0].Err != nil {
		t.Fatal(up, err)
	}
	if due(up[0].Record) {
		t.Error("an upgrade is due for ever")
	}
}

// TestImportOfTheLastEpoch: an export that says it is of the last epoch there can be leaves the store as it was.
func TestImportOfTheLastEpoch(t *testing.T) {
	c := newClock()
	st := openBolt(t)
	n := newNode(t, st, c, func(r *RingConfig) { r.Existing = true }, testKey(t, c))
	secret, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	to, err := secret.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	from := newNode(t, openBolt(t), c, nil, testKey(t, c))
	o := from.mustSync(t)
	for _, epoch := range []uint64{1<<64 - 1, 1<<64 - 2} {
		planted := *o
		planted.file.Epoch = epoch
		from.Ring.mu.Lock()
		from.Ring.open = &planted
		from.Ring.mu.Unlock()
		blob, err := from.Export(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Import(t.Context(), blob, secret); !errors.Is(err, ErrInput) || stored(t, st) != nil {
			t.Errorf("epoch %d: %v, and the store has %d bytes", epoch, err, len(stored(t, st)))
		}
	}
}

// TestLinesWithTricks: a byte order mark, line ends of another system and lines of another shape make no record for somebody
// else than the file says.
func TestLinesWithTricks(t *testing.T) {
	w := newWorld(t, nil)
	good := line("alice", "", "x")
	if rec := w.postLines("protect", "\ufeff"+good); rec.Code != 400 {
		t.Errorf("a byte order mark: %d %s", rec.Code, rec.Body)
	}
	for _, bad := range []string{"", "\r", strings.TrimSuffix(good, "\n") + "\r", "alice\teA", "alice\t\teA\t", "alice\t\teA=", "alice\t\te\rA", "\t\teA", "alice\t\t", "alice\t \teA"} {
		rec := w.postLines("protect", good+bad+"\n"+good)
		lines := strings.Split(rec.Body.String(), "\n")
		if rec.Code != 200 || len(lines) != 4 || lines[1] != "! input" || !w.matches(t, "alice", "", "x", lines[0]) || !w.matches(t, "alice", "", "x", lines[2]) {
			t.Errorf("%q: %d %q", bad, rec.Code, lines)
		}
	}
}

// TestNodeThatCannotFollowMakesNothing: after a compromise, a node that cannot open the ring any more verifies with what it
// holds, and uses no compromised pepper for anything new. As soon as it can, it goes on.
func TestNodeThatCannotFollowMakesNothing(t *testing.T) {
	w := newWorld(t, nil)
	mine, peers := w.node.live[0], testKey(t, w.clock)
	peer := newNode(t, w.node.cfg.Store, w.clock, func(r *RingConfig) { r.Compat = true }, mine, peers)
	peer.mustSync(t)
	w.node.mustSync(t)
	peer.serve(peers)
	item := Item{UID: "alice", Secret: "right", Fast: true}
	record := fastRecord(t, w.Service, "alice", "right")
	if _, err := peer.Compromise(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if err := w.node.Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"protect": func() error { _, err := w.Protect(t.Context(), []Item{item}); return err },
		"a set": func() error {
			_, err := w.ProtectSet(t.Context(), SetItem{UID: "alice", Set: []string{"x"}})
			return err
		},
		"upgrade":               func() error { _, err := w.Upgrade(t.Context(), []string{record}); return err },
		"an operator's upgrade": func() error { _, err := w.node.Upgrade(t.Context(), []string{record}); return err },
	} {
		if err := do(); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !w.matches(t, "alice", "", "right", record) {
		t.Error("nobody can sign in meanwhile")
	}
	w.node.serve(mine, peers)
	w.node.mustSync(t)
	records, err := w.Protect(t.Context(), []Item{item})
	if err != nil || !strings.Contains(records[0], ",l=p2,") {
		t.Error(records, err)
	}
}

// TestA104RefusalNamesItsAccount: the event of a refusal names the account that was guessed at, as the event of a wrong secret does.
// The body is cleared and on its way to another request by then.
func TestA104RefusalNamesItsAccount(t *testing.T) {
	w := newWorld(t, nil)
	want := w.node.held().uidKey([]byte("alice")).String()
	ask := func(endpoint, body string, status int) {
		t.Helper()
		if rec := w.post(endpoint, body); rec.Code != status {
			t.Fatalf("%s: %d", endpoint, rec.Code)
		}
		if e := w.events.last(); e.Subject != want {
			t.Errorf("%s answered %d: the event names %q, want %q", endpoint, status, e.Subject, want)
		}
	}
	const verify = `{"uid":"alice","secret":"guess","record":"-none"}`
	for range freeFailures {
		ask("verify", verify, 200)
	}
	ask("verify", verify, 429)
	w.cfg.Limits.spend(8192 - freeFailures)
	ask("protect", `{"items":[{"uid":"alice","secret":"s"}]}`, 429)
	ask("protect", `{"uid":"alice","set":["s"]}`, 429)
}

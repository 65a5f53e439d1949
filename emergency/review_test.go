package emergency

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
)

// G8: a verdict is given once, by somebody else, with a name and, where it is "no", with a reason; it is in the audit log.
func TestG8Verdict(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	_, first := r.begin(l, r.grant("7"))
	r.clock.add(time.Second)
	_, second := r.begin(l, r.grant("8"))
	r.audit.taken()
	ctx := t.Context()
	for name, c := range map[string]struct {
		v    Verdict
		want error
	}{
		"no id":          {Verdict{Accept: true, Reviewer: "otto"}, ErrNotFound},
		"odd id":         {Verdict{ID: "../keys/v1", Accept: true, Reviewer: "otto"}, ErrNotFound},
		"unknown id":     {Verdict{ID: "ZZZZZZZZZZ", Accept: true, Reviewer: "otto"}, ErrNotFound},
		"no reviewer":    {Verdict{ID: first, Accept: true}, ErrVerdict},
		"blank reviewer": {Verdict{ID: first, Accept: true, Reviewer: " \t\u200b"}, ErrVerdict},
		"long reviewer":  {Verdict{ID: first, Accept: true, Reviewer: strings.Repeat("o", 65)}, ErrVerdict},
		"no reason":      {Verdict{ID: first, Reviewer: "otto"}, ErrVerdict},
		"blank reason":   {Verdict{ID: first, Reviewer: "otto", Comment: " \n "}, ErrVerdict},
		"long comment":   {Verdict{ID: first, Accept: true, Reviewer: "otto", Comment: strings.Repeat("x", 501)}, ErrVerdict},
		"themselves":     {Verdict{ID: first, Accept: true, Reviewer: "Dana"}, ErrOwn},
	} {
		if _, err := l.Review(ctx, c.v); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if events := r.audit.taken(); len(events) != 0 || len(r.list(l, StateOpen)) != 2 {
		t.Fatalf("%+v", events)
	}
	got, err := l.Review(ctx, Verdict{ID: strings.ToLower(first[:5]) + "-" + first[5:], Accept: true, Reviewer: "otto", Comment: "asked\x1b[2J\nby phone", Client: "unix"})
	if err != nil || got.State != StateAccepted || got.Reviewer != "otto" || got.Comment != "asked[2J by phone" || !got.Reviewed.Equal(r.clock.now()) {
		t.Errorf("%+v %v", got, err)
	}
	e := r.audit.taken()[0]
	if e.Kind != "review" || e.Decision != "allowed" || e.Reason != "review-accepted" || e.Emergency != first || e.Ref != first || e.Rule != "reviewer otto" || e.Name != "dana" || e.Client != "unix" {
		t.Errorf("%+v", e)
	}
	r.wantError(l.Accept(ctx, first, "otto", ""), ErrReviewed)
	r.wantError(l.Reject(ctx, first, "erin", "no"), ErrReviewed)
	if err := l.Reject(ctx, second, "erin", "no relation"); err != nil {
		t.Error(err)
	}
	for state, want := range map[string][]string{StateOpen: nil, StateAccepted: {first}, StateRejected: {second}, StateAll: {first, second}} {
		var ids []string
		for _, v := range r.list(l, state) {
			ids = append(ids, v.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s: %q, want %q", state, ids, want)
		}
	}
	if _, err := l.List(ctx, "every"); err == nil {
		t.Error("a state that is none")
	}
}

// Without the audit log there is no verdict; one that the store did not take is said to have failed.
func TestVerdictIsAudited(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	_, id := r.begin(l, r.grant("7"))
	r.audit.failing(true)
	r.wantError(l.Accept(t.Context(), id, "otto", ""), ErrUnavailable)
	r.audit.failing(false)
	r.audit.taken()
	if len(r.list(l, StateOpen)) != 1 {
		t.Error("a verdict without a record")
	}
	r.store.failing(func(call, key string) bool { return call == "swap" && key == recordKey(id) })
	r.wantError(l.Accept(t.Context(), id, "otto", ""), ErrUnavailable)
	if got := reasonsOf(r.audit.taken()); !slices.Equal(got, []string{"review allowed review-accepted", "review failed review-accepted"}) {
		t.Errorf("%q", got)
	}
	r.store.failing(nil)
	// What the index does not know yet, the record knows.
	r.store.failing(func(call, key string) bool { return call == "swap" && strings.HasPrefix(key, labelBucket) })
	if err := l.Accept(t.Context(), id, "otto", ""); err != nil {
		t.Error(err)
	}
	if len(r.list(l, StateOpen)) != 0 || len(r.list(l, StateAccepted)) != 1 {
		t.Error("the list believes the index")
	}
}

// Two reviewers on two nodes at once: one verdict.
func TestVerdictRace(t *testing.T) {
	r := newRig(t)
	nodes := []*Ledger{r.with(nil), r.with(nil)}
	for range 20 {
		_, id := r.begin(nodes[0], r.grant("7"))
		r.audit.taken()
		errs := make([]error, 2)
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				_, errs[i] = nodes[i].Review(context.Background(), Verdict{ID: id, Accept: i == 0, Reviewer: fmt.Sprint("r", i), Comment: "x"})
			})
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("%v", errs)
		}
		r.wantError(errors.Join(errs...), ErrReviewed)
	}
}

// G11: a rejected access that still runs is over; an accepted one runs on.
func TestRejectEnds(t *testing.T) {
	r := newRig(t)
	a, b := r.with(nil), r.with(nil)
	line, id := r.begin(a, r.grant("7"))
	good, ok := r.begin(a, r.grant("8"))
	r.wantActive(b, line, "7")
	got, err := a.Review(t.Context(), Verdict{ID: id, Reviewer: "otto", Comment: "no relation"})
	if err != nil || !got.Ended.Equal(r.clock.now()) {
		t.Errorf("%+v %v", got, err)
	}
	if err := a.Accept(t.Context(), ok, "otto", ""); err != nil {
		t.Error(err)
	}
	r.wantActive(a, line)
	r.clock.add(freshFor)
	r.wantActive(b, line)
	r.wantActive(a, good, "8")
	r.wantActive(b, good, "8")
	r.audit.taken()
	r.sweep(a, b)
	if got := reasonsOf(r.audit.taken()); !slices.Equal(got, []string{"emergency ended rejected"}) {
		t.Errorf("%q", got)
	}
}

// G4, G5: the end of an access whose time is over is in the audit log, once over all nodes.
func TestG4StopEvent(t *testing.T) {
	r := newRig(t)
	nodes := []*Ledger{r.with(nil), r.with(nil), r.with(nil)}
	r.begin(nodes[0], r.grant("7"))
	r.audit.taken()
	r.sweep(nodes...)
	if got := r.audit.taken(); len(got) != 0 {
		t.Fatalf("while it runs: %+v", got)
	}
	r.clock.add(30 * time.Minute)
	r.audit.failing(true)
	for _, l := range nodes {
		r.wantError(l.Sweep(t.Context()), ErrUnavailable)
	}
	r.audit.failing(false)
	var all sync.WaitGroup
	for _, l := range nodes {
		all.Go(func() { r.sweep(l) })
	}
	all.Wait()
	r.sweep(nodes...)
	if got := reasonsOf(r.audit.taken()); !slices.Equal(got, []string{"emergency ended expired"}) {
		t.Errorf("%q", got)
	}
}

// G7: an alarm that the webhook did not take is delivered later by whichever node, once, with the id that it had.
func TestG7AlarmAgain(t *testing.T) {
	r := newRig(t)
	r.webhook.failing(403)
	first, told := r.node()
	_, id := r.begin(first, r.grant("7"))
	told() // this node is gone with its alarms
	nodes := make([]*Ledger, 3)
	for i := range nodes {
		nodes[i], _ = r.node()
	}
	r.sweep(nodes...)
	if got := r.list(nodes[0], StateOpen)[0]; got.Alarm != AlarmPending {
		t.Errorf("%+v", got)
	}
	r.clock.add(leaveAlone)
	r.webhook.failing(500)
	r.sweep(nodes...)
	if n := r.list(nodes[0], StateOpen)[0]; n.Alarm != AlarmPending {
		t.Errorf("%+v", n)
	}
	r.webhook.failing(0)
	r.sweep(nodes...)
	if ids := r.webhook.taken(); len(ids) != 0 {
		t.Errorf("sent again at once: %q", ids)
	}
	r.clock.add(againAfter)
	var all sync.WaitGroup
	for _, l := range nodes {
		all.Go(func() { r.sweep(l) })
	}
	all.Wait()
	r.clock.add(time.Hour)
	r.sweep(nodes...)
	if ids := r.webhook.taken(); !slices.Equal(ids, []string{id + "-" + alarm.KindEmergency}) {
		t.Errorf("delivered %q", ids)
	}
	if got := r.list(nodes[0], StateOpen)[0]; got.Alarm != AlarmDelivered {
		t.Errorf("%+v", got)
	}
}

// An alarm is delivered also when a quick reviewer has accepted the access meanwhile.
func TestQuickReviewHidesNoAlarm(t *testing.T) {
	r := newRig(t)
	r.webhook.failing(403)
	l, told := r.node()
	_, id := r.begin(l, r.grant("7"))
	told()
	if err := l.Accept(t.Context(), id, "friend", ""); err != nil {
		t.Fatal(err)
	}
	r.webhook.failing(0)
	r.clock.add(leaveAlone)
	r.sweep(l)
	if ids := r.webhook.taken(); len(ids) != 1 {
		t.Errorf("%q", ids)
	}
	// A config without the webhook settles what it owes.
	r.webhook.failing(403)
	l, told = r.node()
	r.begin(l, r.grant("8"))
	told()
	r.clock.add(leaveAlone)
	bare := r.with(nil)
	r.sweep(bare)
	if got := r.list(bare, StateOpen)[0]; got.Alarm != AlarmLogged {
		t.Errorf("%+v", got)
	}
}

// G8: after three days the reviews are told of, once a day over all nodes, until there are none.
func TestG8Overdue(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	sweep := func() { // on three nodes, until what they raised has arrived
		for range 3 {
			node, told := r.node()
			r.sweep(node)
			told()
		}
	}
	_, id := r.begin(l, r.grant("7"))
	r.clock.add(ReviewWithin - time.Minute)
	sweep()
	if r.list(l, StateOpen)[0].Overdue {
		t.Error("overdue too early")
	}
	r.clock.add(time.Minute)
	for range 48 {
		sweep()
		r.clock.add(time.Hour)
	}
	var overdue []string
	for _, id := range r.webhook.taken() {
		if strings.HasPrefix(id, "overdue-") {
			overdue = append(overdue, id)
		}
	}
	if !slices.Equal(overdue, []string{"overdue-2030-01-05", "overdue-2030-01-06"}) {
		t.Errorf("told %q", overdue)
	}
	last := r.webhook.body[len(r.webhook.body)-1]
	if !strings.Contains(last, `"kind":"emergency-unreviewed"`) || !strings.Contains(last, `"count":1`) || strings.Contains(last, "dana") {
		t.Errorf("told %s", last)
	}
	if !r.list(l, StateOpen)[0].Overdue {
		t.Error("not overdue")
	}
	if err := l.Accept(t.Context(), id, "otto", ""); err != nil {
		t.Fatal(err)
	}
	r.clock.add(48 * time.Hour)
	sweep()
	if ids := r.webhook.taken(); len(ids) != 0 {
		t.Errorf("told of none: %q", ids)
	}
}

// A day's word on overdue reviews that did not arrive is said again.
func TestOverdueAgain(t *testing.T) {
	r := newRig(t)
	r.begin(r.with(nil), r.grant("7"))
	r.clock.add(ReviewWithin)
	r.webhook.failing(403)
	for range 3 { // whose turn it was is for the others to know
		l, told := r.node()
		r.sweep(l)
		told()
	}
	if r.webhook.tries != 1 {
		t.Errorf("%d nodes told of it", r.webhook.tries)
	}
	r.webhook.failing(0)
	r.clock.add(leaveAlone)
	l, told := r.node()
	r.sweep(l)
	told()
	if ids := r.webhook.taken(); len(ids) != 1 {
		t.Errorf("%q", ids)
	}
}

// A review waits for as long as it takes; a reviewed record is kept for ninety days, and then nothing of it is left.
func TestKept(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	_, id := r.begin(l, r.grant("7"))
	for range 400 {
		r.clock.add(day)
		r.sweep(l)
	}
	if all := r.list(l, StateOpen); len(all) != 1 || all[0].ID != id || all[0].Patient != "7" {
		t.Fatalf("%+v", all)
	}
	if err := l.Accept(t.Context(), id, "otto", "in order"); err != nil {
		t.Fatal(err)
	}
	r.clock.add(KeepReviewed - time.Hour)
	r.sweep(l)
	if all := r.list(l, StateAccepted); len(all) != 1 || all[0].Comment != "in order" {
		t.Fatalf("%+v", all)
	}
	r.clock.add(time.Hour)
	r.sweep(l)
	if all := r.list(l, StateAll); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	left, err := r.store.Store.List(t.Context(), labelBucket+"/")
	if err != nil || len(left) != 0 {
		t.Errorf("%d buckets, %v", len(left), err)
	}
	left, err = r.store.Store.List(t.Context(), labelRecord)
	if err != nil || len(left) != 0 {
		t.Errorf("%d records, %v", len(left), err)
	}
}

// An entry whose Begin was killed before the record is no review, and goes.
func TestOrphan(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	if _, err := l.enter(t.Context(), entry{ID: "0000000000", Begun: r.clock.now(), Open: true, Work: true}); err != nil {
		t.Fatal(err)
	}
	if all := r.list(l, StateAll); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	r.sweep(l)
	if _, err := l.find(t.Context(), "0000000000", r.clock.now()); err != nil {
		t.Error("it goes while its record may be on its way")
	}
	r.clock.add(orphanAfter)
	r.sweep(l)
	if _, err := l.find(t.Context(), "0000000000", r.clock.now()); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A record that does not open stays in the list, and hides no other.
func TestUnreadable(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	_, bad := r.begin(l, r.grant("7"))
	r.clock.add(time.Second)
	_, good := r.begin(l, r.grant("8"))
	if err := r.store.Put(t.Context(), recordKey(bad), []byte("overwritten"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.clock.add(ReviewWithin)
	all := r.list(l, StateOpen)
	if len(all) != 2 || all[0].ID != bad || all[0].State != StateUnreadable || !all[0].Overdue || all[1].ID != good {
		t.Errorf("%+v", all)
	}
	r.wantError(l.Accept(t.Context(), bad, "otto", ""), ErrUnavailable)
	r.sweep(l)
}

// Nothing of it can be read in the store, and a session's id is not even in what is sealed.
func TestSealed(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	line, id := r.begin(l, r.grant("patient-4711"))
	items, err := r.store.Store.List(t.Context(), "anteroom/emergency/")
	if err != nil || len(items) < 4 {
		t.Fatal(len(items), err)
	}
	for _, item := range items {
		for _, secret := range []string{"4711", "dana", "ambulance", sid, site} {
			if strings.Contains(item.Key, secret) || strings.Contains(string(item.Value), secret) || strings.Contains(line, secret) {
				t.Errorf("%s holds %s", item.Key, secret)
			}
		}
		plain, err := r.sealer.Open(t.Context(), item.Key, item.Value)
		if err != nil || strings.Contains(string(plain), sid) {
			t.Errorf("%s: %v", item.Key, err)
		}
	}
	if v := r.list(l, StateOpen)[0]; v.ID != id || strings.Contains(fmt.Sprintf("%+v", v), sid) {
		t.Errorf("%+v", v)
	}
}

// An id is read as people write it.
func TestParseID(t *testing.T) {
	for text, want := range map[string]string{
		"7Q2M9XKD4T": "7Q2M9XKD4T", "7q2m9-xkd4t": "7Q2M9XKD4T", " 7Q2M9 XKD4T ": "7Q2M9XKD4T", "ooooOiIlL1": "0000011111",
		"": "", "7Q2M9XKD4": "", "7Q2M9XKD4TT": "", "7Q2M9XKD4U": "", "7Q2M9XKD/T": "", "７Q2M9XKD4": "", "7Q2M9\x00KD4T": "",
	} {
		if got, ok := parseID(text); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v", text, got, ok)
		}
	}
}

// Memory is bounded.
func TestMemory(t *testing.T) {
	m := newRecent[int, int](100)
	for i := range 1000 {
		m.put(i, i)
		m.update(i%7, func(v int) int { return v + 1 })
	}
	if n := len(m.young) + len(m.old); n > 100 {
		t.Errorf("%d", n)
	}
	if v, ok := m.get(3); !ok || v == 0 {
		t.Error("what is used often went")
	}
}

// Who has no username is called by their subject: nobody reviews their own access under that name either.
func TestOwnReviewBySubject(t *testing.T) {
	r := newRig(t)
	l, _ := r.node()
	g := r.grant("7")
	g.Username = ""
	_, id := r.begin(l, g)
	if _, err := l.Review(t.Context(), Verdict{ID: id, Accept: true, Reviewer: strings.ToUpper(g.Subject)}); !errors.Is(err, ErrOwn) {
		t.Errorf("%v", err)
	}
	if _, err := l.Review(t.Context(), Verdict{ID: id, Accept: true, Reviewer: "otto"}); err != nil {
		t.Error(err)
	}
}

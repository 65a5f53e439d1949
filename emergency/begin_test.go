package emergency

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
)

// What was never made gives nobody access.
func TestZeroDenies(t *testing.T) {
	r := newRig(t)
	good, _ := r.node()
	line, _ := r.begin(good, r.grant("7"))
	ctx := t.Context()
	for _, l := range []*Ledger{nil, {}} {
		if c, id, err := l.Begin(ctx, r.grant("7")); c != nil || id != "" || !errors.Is(err, ErrUnavailable) {
			t.Errorf("Begin: %v %q %v", c, id, err)
		}
		if a := l.Active(ctx, []string{line}, sid, site, r.clock.now()); a != nil {
			t.Errorf("Active: %v", a)
		}
		if _, err := l.List(ctx, StateOpen); !errors.Is(err, ErrUnavailable) {
			t.Errorf("List: %v", err)
		}
		if _, err := l.End(ctx, End{Session: sid, Site: site, Cookies: []string{line}}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("End: %v", err)
		}
		r.wantError(l.Accept(ctx, "0000000000", "otto", ""), ErrUnavailable)
		r.wantError(l.Sweep(ctx), ErrUnavailable)
	}
	if _, err := New(Config{Store: r.store, Sealer: r.sealer}); err == nil {
		t.Error("a book without an audit log")
	}
}

// G6, G7: the review record is durable first, then the audit event, then the alarm; then there is a cookie.
func TestG6Order(t *testing.T) {
	r := newRig(t)
	l, told := r.node()
	line, id := r.begin(l, r.grant("7"))
	told()
	want := []string{"store person", "store buckets", "store bucket", "store record", "audit emergency allowed", "alarm", "store record"}
	if got := r.trace.take(); !slices.Equal(got, want) {
		t.Errorf("order %q\nwant  %q", got, want)
	}
	r.wantActive(l, line, "7")
	e := r.audit.taken()[0]
	if e.Ref != id || e.Emergency != id || e.Purpose != "ETREAT" || e.Name != "dana" || e.Reason != "unconscious" || e.Session != audit.SessionLabel(sid) || e.Route != "/patients/**" || e.Patient != "7" {
		t.Errorf("event %+v", e)
	}
	if e.Client != "192.0.2.7" || e.Site != site || e.Source != "idp" || e.Subject != "1" || !slices.Equal(e.Roles, []string{"doctor"}) {
		t.Errorf("event %+v", e)
	}
	reviews := r.list(l, StateOpen)
	if len(reviews) != 1 || reviews[0].ID != id || reviews[0].Patient != "7" || reviews[0].ReasonText != "brought in by ambulance, not answering" ||
		reviews[0].Alarm != AlarmDelivered || reviews[0].Today != 1 || reviews[0].Overdue || !reviews[0].Until.Equal(r.clock.now().Add(30*time.Minute)) {
		t.Errorf("reviews %+v", reviews)
	}
	body := r.webhook.body[0]
	for _, part := range []string{`"kind":"emergency"`, `"ref":"` + id + `"`, `"who":"dana"`, `"subject":"7"`, `"site":"app.test"`} {
		if !strings.Contains(body, part) {
			t.Errorf("the alarm lacks %s: %s", part, body)
		}
	}
	if strings.Contains(body, "ambulance") || strings.Contains(body, sid) {
		t.Errorf("the alarm tells too much: %s", body)
	}
}

// The cookie has what a __Host- name needs, is not for scripts, and lasts as long as the access.
func TestCookieForm(t *testing.T) {
	r := newRig(t)
	l, _ := r.node()
	c, _, err := l.Begin(t.Context(), r.grant("7"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != CookieName || c.Path != "/" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Domain != "" || c.MaxAge != 1800 {
		t.Errorf("%+v", c)
	}
	if gone := clearCookie(); gone.MaxAge >= 0 || gone.Path != "/" || !gone.Secure || gone.Value != "" {
		t.Errorf("%+v", gone)
	}
}

// G2: without a session, an account, a reason, a patient or time there is no access and no trace of one.
func TestG2Missing(t *testing.T) {
	r := newRig(t)
	l, _ := r.node()
	for name, c := range map[string]struct {
		change func(*Grant)
		want   error
	}{
		"session":       {func(g *Grant) { g.Session = "" }, errGrant},
		"site":          {func(g *Grant) { g.Site = "" }, errGrant},
		"source":        {func(g *Grant) { g.Source = "" }, errGrant},
		"subject":       {func(g *Grant) { g.Subject = "" }, errGrant},
		"rule":          {func(g *Grant) { g.Rule = "" }, errGrant},
		"scope":         {func(g *Grant) { g.Scope = "" }, errGrant},
		"patient":       {func(g *Grant) { g.Patient = "" }, errGrant},
		"time":          {func(g *Grant) { g.Until = time.Time{} }, errGrant},
		"past":          {func(g *Grant) { g.Until = r.clock.now() }, errGrant},
		"code":          {func(g *Grant) { g.ReasonCode = "" }, ErrReason},
		"unknown code":  {func(g *Grant) { g.ReasonCode = "curious" }, ErrReason},
		"text":          {func(g *Grant) { g.ReasonText = "" }, ErrReason},
		"short text":    {func(g *Grant) { g.ReasonText = "needed it" }, ErrReason},
		"blank text":    {func(g *Grant) { g.ReasonText = strings.Repeat(" ", 40) + "x" }, ErrReason},
		"dots":          {func(g *Grant) { g.ReasonText = strings.Repeat(".", 40) }, ErrReason},
		"long text":     {func(g *Grant) { g.ReasonText = strings.Repeat("x", 501) }, ErrReason},
		"invisible":     {func(g *Grant) { g.ReasonText = strings.Repeat("\u200b", 40) }, ErrReason},
		"long patient":  {func(g *Grant) { g.Patient = strings.Repeat("7", maxText+1) }, errGrant},
		"beyond cookie": {func(g *Grant) { g.Scope, g.Rule, g.Route = big(), big(), big() }, errGrant},
	} {
		g := r.grant("7")
		c.change(&g)
		if cookie, id, err := l.Begin(t.Context(), g); cookie != nil || id != "" || !errors.Is(err, c.want) {
			t.Errorf("%s: %v %q %v", name, cookie, id, err)
		}
	}
	if events := r.audit.taken(); len(events) != 0 || len(r.list(l, StateAll)) != 0 || len(r.webhook.taken()) != 0 {
		t.Errorf("traces of what never was: %+v", events)
	}
}

func big() string { return strings.Repeat("x", maxText) }

// A reason is kept as one harmless line.
func TestReasonText(t *testing.T) {
	got, err := CheckReason("other", "  seen in\r\nthe \x1b[31mcorridor\u202e, \u200basked\tby phone ")
	if err != nil || got != "seen in the [31mcorridor, asked by phone" {
		t.Errorf("%q %v", got, err)
	}
	if got, err := CheckReason("other", "пациент без сознания"); err != nil || got == "" {
		t.Errorf("%q %v", got, err)
	}
	for _, reason := range Reasons(true) {
		if ReasonText(reason.Code) != reason.Text || reason.Text == "" {
			t.Errorf("%+v", reason)
		}
	}
}

// G6: without the store or the audit log there is no access, and nothing is left to be reviewed.
func TestG6SinkCut(t *testing.T) {
	for name, cut := range map[string]func(*rig){
		"audit": func(r *rig) { r.audit.failing(true) },
		"index": func(r *rig) {
			r.store.failing(func(call, key string) bool { return call == "swap" && strings.HasPrefix(key, labelBucket+"/") })
		},
		"list of buckets": func(r *rig) { r.store.failing(func(_, key string) bool { return key == labelBuckets }) },
		"record": func(r *rig) {
			r.store.failing(func(call, key string) bool { return call == "swap" && strings.HasPrefix(key, labelRecord+"/") })
		},
	} {
		r := newRig(t)
		l, told := r.node()
		cut(r)
		if c, id, err := l.Begin(t.Context(), r.grant("7")); c != nil || id != "" || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v %q %v", name, c, id, err)
		}
		told()
		r.store.failing(nil)
		r.audit.failing(false)
		if left := r.list(l, StateAll); len(left) != 0 || len(r.audit.taken()) != 0 || len(r.webhook.taken()) != 0 {
			t.Errorf("%s: left %+v", name, left)
		}
		records, err := r.store.Store.List(t.Context(), labelRecord)
		if err != nil || len(records) != 0 {
			t.Errorf("%s: %d records are left, %v", name, len(records), err)
		}
		err = l.each(t.Context(), func(_ string, b *bucket) error {
			if len(b.Entries) != 0 && name != "record" { // whose write may have happened all the same
				t.Errorf("%s: %d entries are left", name, len(b.Entries))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Whether the webhook answers, or the rate can be counted, never keeps anybody from a patient.
func TestAlarmNeverBlocks(t *testing.T) {
	r := newRig(t)
	r.webhook.failing(500)
	r.store.failing(func(_, key string) bool { return strings.HasPrefix(key, labelPerson) })
	l, told := r.node()
	line, _ := r.begin(l, r.grant("7"))
	r.wantActive(l, line, "7")
	told()
	if got := r.list(l, StateOpen)[0]; got.Alarm != AlarmPending || got.Today != 0 {
		t.Errorf("%+v", got)
	}
	if none := r.with(nil); true { // without alarms at all
		line, id := r.begin(none, r.grant("8", line))
		r.wantActive(none, line, "7", "8")
		if i := slices.IndexFunc(r.list(none, StateOpen), func(v Review) bool { return v.ID == id && v.Alarm == AlarmLogged }); i < 0 {
			t.Error("the record does not say that there is no webhook")
		}
	}
}

// G10: more than five of one person within a day, over all nodes, raise an alarm of their own and block nobody.
func TestG10Rate(t *testing.T) {
	r := newRig(t)
	a, toldA := r.node()
	b, toldB := r.node()
	for i := range 11 {
		if i == 5 {
			g := r.grant("5")
			g.Subject = "2" // somebody else does not count
			r.begin(a, g)
		}
		line, _ := r.begin([]*Ledger{a, b}[i%2], r.grant(fmt.Sprint(i)))
		r.wantActive(a, line, fmt.Sprint(i))
		r.clock.add(time.Hour)
	}
	toldA()
	toldB()
	rates := 0
	for _, id := range r.webhook.taken() {
		if strings.HasSuffix(id, "-"+alarm.KindRate) {
			rates++
		}
	}
	if rates != 2 { // the sixth, and the eleventh
		t.Errorf("%d alarms of the rate", rates)
	}
	all := r.list(a, StateOpen)
	if len(all) != 12 || all[11].Today != 11 {
		t.Errorf("%d listed, the last is number %d", len(all), all[len(all)-1].Today)
	}
	r.clock.add(23 * time.Hour)
	_, id := r.begin(a, r.grant("9"))
	all = r.list(a, StateOpen)
	if last := all[len(all)-1]; last.ID != id || last.Today != 1 {
		t.Errorf("after a day it is number %d", last.Today)
	}
}

// Three nodes, everybody at once: each access is in the list.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t)
	var nodes []*Ledger
	for range 3 {
		nodes = append(nodes, r.with(nil))
	}
	var mu sync.Mutex
	ids := map[string]bool{}
	var all sync.WaitGroup
	for i := range 45 {
		all.Go(func() {
			g := r.grant(fmt.Sprint(i))
			g.Subject = fmt.Sprint(i % 7)
			_, id, err := nodes[i%3].Begin(context.Background(), g)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			ids[id] = true
		})
	}
	all.Wait()
	listed := r.list(nodes[0], StateOpen)
	if len(listed) != 45 || len(ids) != 45 {
		t.Fatalf("%d listed, %d ids", len(listed), len(ids))
	}
	for _, v := range listed {
		if !ids[v.ID] {
			t.Errorf("%s is not one of them", v.ID)
		}
	}
}

// A full bucket is followed by the next.
func TestBucketsOverflow(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	name := bucketName(r.clock.now(), 0)
	if err := l.announce(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	var b bucket
	for i := range bucketSize {
		b.Entries = append(b.Entries, entry{ID: fmt.Sprintf("%010d", i), Begun: r.clock.now()})
	}
	if err := l.write(t.Context(), bucketKey(name), nil, b, time.Time{}); err != nil {
		t.Fatal(err)
	}
	_, id := r.begin(l, r.grant("7"))
	if all := r.list(l, StateOpen); len(all) != 1 || all[0].ID != id {
		t.Errorf("%+v", all)
	}
	if at, err := l.find(t.Context(), id, r.clock.now()); err != nil || at != bucketName(r.clock.now(), 1) {
		t.Errorf("it is in %s: %v", at, err)
	}
}

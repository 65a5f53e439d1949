package hardening

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// asJSON reads an answer of 200.
func asJSON[T any](t *testing.T, rec *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func recordsBody(records []string, more string) string {
	text, _ := json.Marshal(records)
	return `{"records":` + string(text) + more + `}`
}

type upgradeAnswer struct {
	Records []struct {
		Record  *string
		Changed bool
		Error   string
	}
}

// TestUpgradeEndpoint: records of all kinds move under the newest pepper without secrets, twice is once, and one that cannot
// be read gets its own error in its place.
func TestUpgradeEndpoint(t *testing.T) {
	w := newWorld(t, nil)
	slow, err := w.Protect(t.Context(), []Item{{UID: "alice", Secret: "right"}})
	if err != nil {
		t.Fatal(err)
	}
	fast, set := fastRecord(t, w.Service, "alice", "right"), mustSet(t, w, 2, 4)
	rotateNow(t, w)
	ring := w.node.held().file.Ring
	foreign := strings.Replace(slow[0], ring, "0123456789abcdef", 1)
	unknown := strings.Replace(slow[0], "l=p1", "l=p1.p99", 1)
	fresh := fastRecord(t, w.Service, "alice", "right")
	in := []string{slow[0], "$2b$12$x", fast, foreign, set, unknown, fresh}
	got := asJSON[upgradeAnswer](t, w.post("upgrade", recordsBody(in, ""))).Records
	wantErr := []string{"", "input", "", "foreign-ring", "", "foreign-ring", ""}
	var out []string
	for i, g := range got {
		if g.Error != wantErr[i] || (g.Error == "") != (g.Record != nil) || g.Changed != (g.Error == "" && i != 6) {
			t.Errorf("record %d: %+v", i, g)
		}
		if g.Error == "" {
			out = append(out, *g.Record)
		}
	}
	if e := w.events.last(); e.Route != pathUpgrade || e.Count != 1+1+4 || e.Rule != "p2" || e.Decision != "allowed" {
		t.Errorf("the event is %+v", e)
	}
	for i, secret := range []string{"right", "right"} {
		if !w.matches(t, "alice", "", secret, out[i]) || w.matches(t, "alice", "", "wrong", out[i]) || w.matches(t, "bob", "", secret, out[i]) {
			t.Errorf("record %d after the upgrade", i)
		}
	}
	for _, g := range asJSON[upgradeAnswer](t, w.post("upgrade", recordsBody(out, ""))).Records {
		if g.Changed || !slices.Contains(out, *g.Record) {
			t.Errorf("an upgrade of the upgraded changes %+v", g)
		}
	}
	// Plain lines say the same.
	rec := w.postLines("upgrade", strings.Join(in, "\n"))
	lines := strings.Split(rec.Body.String(), "\n")
	if rec.Code != 200 || len(lines) != 8 || lines[1] != "! input" || lines[3] != "! foreign-ring" || lines[0] != out[0] || lines[4] != out[2] || lines[6] != fresh {
		t.Errorf("%d %q", rec.Code, lines)
	}
	// The ring's own, for operators, without the limits.
	units := w.Stats().Units
	if own, err := w.node.Upgrade(t.Context(), in); err != nil || own[0].Record != out[0] || !errors.Is(own[3].Err, ErrForeign) || w.Stats().Units != units {
		t.Errorf("%+v, %v", own, err)
	}
	for _, bad := range []string{`{}`, `{"records":[]}`, `{"records":null}`, `{"records":[1]}`, `{"records":[""],"done":true}`} {
		if rec := w.post("upgrade", bad); rec.Code != 400 {
			t.Errorf("%s: %d", bad, rec.Code)
		}
	}
	wantProblem(t, w, w.post("upgrade", recordsBody(make([]string, maxBatch+1), "")), 413, "too-large", "too-large")
	w.cfg.Limits.spend(8192 - int(units))
	wantProblem(t, w, w.post("upgrade", recordsBody(slices.Repeat([]string{slow[0]}, 4096), "")), 429, "too-many", "limit")
}

// TestUpgradeMakesNoForgeryWhole: whoever learned a closed pepper forges a whole record with it; neither verify nor upgrade
// takes it, while true records, with a newer layer, go on.
func TestUpgradeMakesNoForgeryWhole(t *testing.T) {
	w := newWorld(t, nil)
	old := fastRecord(t, w.Service, "alice", "right")
	rotateNow(t, w)
	up, err := w.Upgrade(t.Context(), []string{old})
	if err != nil || up[0].Err != nil {
		t.Fatal(up, err)
	}
	w.clock.add(time.Second)
	if _, err := w.node.Count(t.Context(), "", []string{up[0].Record}, true); err != nil {
		t.Fatal(err)
	}
	w.clock.add(time.Second)
	if _, err := w.node.Close(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	item := Item{UID: "alice", Secret: "right"}
	if _, err := w.Verify(t.Context(), Verification{Item: item, Record: old}); !errors.Is(err, ErrForeign) {
		t.Errorf("a record under a closed pepper alone: %v", err)
	}
	if again, err := w.Upgrade(t.Context(), []string{old}); err != nil || again[0].Err == nil {
		t.Errorf("the upgrade of a forgery: %+v, %v", again, err)
	}
	if got, err := w.Verify(t.Context(), Verification{Item: item, Record: up[0].Record}); err != nil || !got.Match {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestManyLayers: as many rotations as a record may have layers, and one more.
func TestManyLayers(t *testing.T) {
	w := newWorld(t, nil)
	record := fastRecord(t, w.Service, "alice", "right")
	for i := range maxLayers {
		rotateNow(t, w)
		up, err := w.Upgrade(t.Context(), []string{record})
		if err != nil {
			t.Fatal(err)
		}
		if i == maxLayers-1 {
			if !errors.Is(up[0].Err, ErrInput) {
				t.Errorf("%+v", up[0])
			}
			break
		}
		record = up[0].Record
	}
	if got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right"}, Record: record}); err != nil || !got.Match || !strings.Contains(got.Record, fmt.Sprintf("l=p%d,", maxLayers+1)) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCensusEndpoint: parts that come in several requests add up, and the finished census is what the ring decides by.
func TestCensusEndpoint(t *testing.T) {
	w := newWorld(t, nil)
	old := fastRecord(t, w.Service, "alice", "right")
	rotateNow(t, w)
	up, err := w.Upgrade(t.Context(), []string{old})
	if err != nil {
		t.Fatal(err)
	}
	fresh := fastRecord(t, w.Service, "bob", "right")
	first := asJSON[Census](t, w.post("census", recordsBody([]string{old, up[0].Record, "$2b$12$x"}, "")))
	if first.ID == "" || first.Records != 3 || first.Foreign != 1 || first.Versions["p1"] != 2 || first.Versions["p2"] != 1 || first.Outermost["p1"] != 1 || first.Outermost["p2"] != 1 {
		t.Errorf("%+v", first)
	}
	unknown := strings.Replace(fresh, "l=p2", "l=p2.p99", 1)
	done := asJSON[Census](t, w.post("census", recordsBody([]string{fresh, unknown}, `,"census":"`+first.ID+`","done":true`)))
	if done.ID != first.ID || done.Records != 5 || done.Foreign != 2 || done.Versions["p2"] != 3 || done.Outermost["p2"] != 2 || done.Versions["p99"] != 0 {
		t.Errorf("%+v", done)
	}
	if last := w.node.Status().LastCensus; last == nil || last.ID != first.ID || last.Records != 5 || last.Ended.IsZero() {
		t.Errorf("the ring keeps %+v", last)
	}
	if _, err := w.node.Retire(t.Context(), "p1", false); err == nil {
		t.Error("a pepper that records need may go")
	}
	for name, more := range map[string]string{
		"finished before": `,"census":"` + first.ID + `"`, "made up": `,"census":"0123456789abcdef"`, "no id": `,"census":"../x"`,
	} {
		if rec := w.post("census", recordsBody([]string{fresh}, more)); rec.Code != 400 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	if rec := w.post("census", `{"records":[],"done":true}`); rec.Code != 400 {
		t.Errorf("a census of nothing: %d", rec.Code)
	}
	// Plain lines: the layers of each, the id in a header.
	rec := w.postLines("census", old+"\n"+up[0].Record+"\nx\n")
	if rec.Code != 200 || rec.Body.String() != "p1\np1.p2\n! input\n" {
		t.Errorf("%d %q", rec.Code, rec.Body)
	}
	id := rec.Header().Get("Anteroom-Census")
	if sum := asJSON[Census](t, w.post("census", recordsBody([]string{}, `,"census":"`+id+`","done":true`))); sum.Records != 3 || sum.Foreign != 1 {
		t.Errorf("%+v", sum)
	}
}

// TestStatusEndpoint: what the application must know, and no secret.
func TestStatusEndpoint(t *testing.T) {
	w := newWorld(t, nil)
	before := len(w.events.list)
	rec := w.post("status", `{}`)
	got := asJSON[struct {
		RingStatus
		Limits map[string]int
	}](t, rec)
	if got.State != RingOpen || got.Primary != "p1" || got.UpgradeDue || got.Limits["units"] != 200 || got.Limits["burst"] != 8192 || got.Limits["records"] != 4096 || got.Limits["slow_items"] != 64 {
		t.Errorf("%s", rec.Body)
	}
	for _, v := range w.node.held().body.Versions {
		for _, form := range []string{hex.EncodeToString(v.Key), base64.StdEncoding.EncodeToString(v.Key), base64.RawURLEncoding.EncodeToString(v.Key)} {
			if strings.Contains(rec.Body.String(), form) {
				t.Error("a key is in the status")
			}
		}
	}
	if len(w.events.list) != before {
		t.Error("a status is in the audit log")
	}
	if _, err := w.node.Compromise(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if !asJSON[RingStatus](t, w.post("status", ` { } `)).UpgradeDue {
		t.Error("after a compromise no upgrade is due")
	}
	for _, body := range []string{"", "[]", `{"x":1}`, "{}{}", "{}\x00", "null"} {
		if rec := w.post("status", body); rec.Code != 400 {
			t.Errorf("%q: %d", body, rec.Code)
		}
	}
}

// TestImportedDigest: a digest of the original form stands in a record, verifies, and becomes a record with everything.
func TestImportedDigest(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.cfg.Limits.Set(1e6, 1e6); err != nil {
		t.Fatal(err)
	}
	w.clock.add(time.Hour)
	id, err := w.node.ImportOriginal(t.Context(), fileKey(t, "rfc9500-p256"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(knownAnswers[1].digests[4096])
	if err != nil {
		t.Fatal(err)
	}
	record := "$anteroom$v=1,ring=" + w.node.held().file.Ring + ",l=" + id + ",r=4096$$" + base64.RawStdEncoding.EncodeToString(raw)
	rotateNow(t, w)
	up, err := w.Upgrade(t.Context(), []string{record})
	if err != nil || up[0].Err != nil || !strings.Contains(up[0].Record, id+".p2,r=4096$$") {
		t.Fatal(up, err)
	}
	for _, text := range []string{record, up[0].Record} {
		units := w.Stats().Units
		got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "correct horse", Context: "pin"}, Record: text})
		if err != nil || !got.Match || !got.NeedsRehash || !strings.Contains(got.Record, ",l=p2,s="+slowText+",c=pin$") {
			t.Fatalf("%s: %+v, %v", text, got, err)
		}
		if spent := w.Stats().Units - units; spent < 4096 {
			t.Errorf("4096 rounds cost %d units", spent)
		}
		if w.matches(t, "alice", "", "correct horsf", text) {
			t.Error("a wrong password matches")
		}
		if !w.matches(t, "alice", "pin", "correct horse", got.Record) || w.matches(t, "bob", "pin", "correct horse", got.Record) {
			t.Error("the fresh record")
		}
	}
	for name, bad := range map[string]string{
		"a million and one rounds": strings.Replace(record, "r=4096", "r=1000001", 1), "round 0": strings.Replace(record, "r=4096", "r=0", 1), "no rounds": strings.Replace(record, ",r=4096", "", 1),
		"with a salt": strings.Replace(record, "$$", "$AAECAwQFBgcICQoLDA0ODw$", 1), "with a context": strings.Replace(record, "r=4096", "r=4096,c=pin", 1),
		"pinned key above": strings.Replace(record, id, "p1."+id, 1), "two pinned keys": strings.Replace(record, id, id+"."+id, 1), "rounds and pepper": strings.Replace(record, id, "p1", 1),
	} {
		if _, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "x"}, Record: bad}); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecordCopied: a record in another row, for another purpose or from another ring does not verify.
func TestRecordCopied(t *testing.T) {
	w, other := newWorld(t, nil), newWorld(t, nil)
	records, err := w.Protect(t.Context(), []Item{{UID: "alice", Secret: "right", Context: "login"}, {UID: "alice", Secret: "right", Context: "login", Fast: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if !w.matches(t, "alice", "login", "right", r) || w.matches(t, "mallory", "login", "right", r) || w.matches(t, "alice", "pin", "right", r) || w.matches(t, "alice", "", "right", r) {
			t.Error("the record is not bound to uid and context")
		}
		if w.matches(t, "alice", "pin", "right", strings.Replace(r, ",c=login", ",c=pin", 1)) {
			t.Error("the context can be rewritten")
		}
		if _, err := other.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: "right", Context: "login"}, Record: r}); !errors.Is(err, ErrForeign) {
			t.Errorf("in another ring: %v", err)
		}
		moved := strings.Replace(r, w.node.held().file.Ring, other.node.held().file.Ring, 1)
		if other.matches(t, "alice", "login", "right", moved) {
			t.Error("in another ring under its name")
		}
	}
}

// TestOldRecordVerifies: a record that was made before there were others verifies byte for byte, over HTTP.
func TestOldRecordVerifies(t *testing.T) {
	old := readOldRing(t)
	w := newWorld(t, func(c *Config) {
		clock := newClock()
		k, err := NewTLSKey(fileKey(t, "rfc9500-p256"), clock.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		n := newNode(t, &memory{value: old.Ring}, clock, func(r *RingConfig) { r.Compat = true }, k)
		n.mustSync(t)
		c.Ring = n.Ring
	})
	rec, err := parseRecord(old.Record)
	if err != nil || rec.String() != old.Record {
		t.Fatal(rec, err)
	}
	got, err := w.Verify(t.Context(), Verification{Item: Item{UID: old.UID, Secret: old.Secret, Context: old.Context}, Record: old.Record})
	if err != nil || !got.Match || got.NeedsRehash {
		t.Errorf("%+v, %v", got, err)
	}
	if digest, err := w.Original(t.Context(), []byte(old.Secret), 3); err != nil || digest != old.Original {
		t.Errorf("%s, %v", digest, err)
	}
}

// TestNobodyCostsTheSame: an account that does not exist takes as many HMACs and as many accesses to the store as one that
// does, for each kind of record.
func TestNobodyCostsTheSame(t *testing.T) {
	w := newWorld(t, nil)
	w.ops = new(atomic.Int64)
	w.macs.Store(nil)
	slow, err := w.Protect(t.Context(), []Item{{UID: "alice", Secret: "right"}})
	if err != nil {
		t.Fatal(err)
	}
	st := w.node.cfg.Store.(*faults)
	for stand, record := range map[string]string{"-": slow[0], "-none": fastRecord(t, w.Service, "alice", "right"), "-set": mustSet(t, w, 3, 0)} {
		var ops, writes [2]int64
		for i, text := range []string{record, stand} {
			st.mu.Lock()
			st.beforeCAS = func() { writes[i]++ }
			st.mu.Unlock()
			before := w.ops.Load()
			if got, err := w.Verify(t.Context(), Verification{Item: Item{UID: fmt.Sprint(stand, i), Secret: "guess"}, Record: text}); err != nil || got.Match {
				t.Errorf("%s: %+v, %v", text, got, err)
			}
			ops[i] = w.ops.Load() - before
		}
		if ops[0] != ops[1] || writes[0] != writes[1] || ops[0] == 0 || writes[0] == 0 {
			t.Errorf("%s: %v HMACs, %v writes", stand, ops, writes)
		}
	}
}

// TestProtectAsksNoStore: making records goes on while the store is away.
func TestProtectAsksNoStore(t *testing.T) {
	w := newWorld(t, nil)
	st := w.node.cfg.Store.(*faults)
	st.mu.Lock()
	st.get, st.cas = errors.New("away"), errors.New("away")
	st.mu.Unlock()
	for _, body := range []string{`{"items":[{"uid":"u","secret":"s"}]}`, `{"items":[{"uid":"u","secret":"s","slow":false}]}`, `{"uid":"u","set":["s"],"pad":16}`} {
		if rec := w.post("protect", body); rec.Code != 200 {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	if rec := w.post("census", `{"records":["x"]}`); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("a census without the store: %d", rec.Code)
	}
}

// TestGather: the first success of a second has its own event, the others one together; without an audit log nobody gets an
// answer from then on.
func TestGather(t *testing.T) {
	w := newWorld(t, nil)
	var later []func()
	w.gather.after = func(f func()) { later = append(later, f) }
	tick := func() {
		t.Helper()
		if len(later) != 1 {
			t.Fatalf("%d timers", len(later))
		}
		f := later[0]
		later = nil
		f()
	}
	const body = `{"items":[{"uid":"u","secret":"s","slow":false}]}`
	post := func() int { return w.post("protect", body).Code }
	for range 10 {
		if code := post(); code != 200 {
			t.Fatal(code)
		}
	}
	if len(w.events.list) != 1 || w.events.last().Count != 1 || w.events.last().Client == "" {
		t.Fatalf("%+v", w.events.list)
	}
	tick()
	if e := w.events.last(); e.Count != 9 || e.Decision != "allowed" || e.ClientID != "token" || len(w.events.list) != 2 {
		t.Errorf("%+v", e)
	}
	tick() // a second without any ends it
	if post(); len(w.events.list) != 3 || len(later) != 1 {
		t.Errorf("%+v", w.events.list)
	}
	w.events.err = errors.New("disk full")
	post()
	tick()
	if code := post(); code != 503 || len(later) != 0 {
		t.Errorf("without an audit log: %d", code)
	}
	if !strings.Contains(w.log.String(), "could not record the successes") {
		t.Error("the operator does not hear of it")
	}
	w.events.err = nil
	if code := post(); code != 200 || len(later) != 1 {
		t.Errorf("with the audit log back: %d", code)
	}
}

// TestMemoryCeiling: slow hashes at once are bounded by cores and by memory, and there is always one.
func TestMemoryCeiling(t *testing.T) {
	for _, c := range []struct {
		cores  int
		memory int64
		want   int
	}{{2, 1 << 40, 2}, {64, 1 << 40, 64}, {64, 1 << 30, 6}, {64, 512 << 20, 3}, {64, 64 << 20, 1}, {1, 0, 1}} {
		if got := slowAtOnce(c.cores, c.memory); got != c.want {
			t.Errorf("%d cores, %d MiB: %d, want %d", c.cores, c.memory>>20, got, c.want)
		}
	}
	for memory, want := range map[int64]int{0: 1, 128 << 20: 1, 512 << 20: 4, 2 << 30: 16, 1 << 40: 16} {
		if got := batchesAtOnce(memory); got != want {
			t.Errorf("%d MiB: %d big bodies, want %d", memory>>20, got, want)
		}
	}
	if memoryLimit() <= 0 {
		t.Error("no limit at all")
	}
	w := newWorld(t, nil)
	w.batches = newSlots(1, 0)
	w.batches.free <- struct{}{}
	rec := w.postLines("protect", strings.Repeat(line("alice", "", strings.Repeat("x", 100)), 600))
	wantProblem(t, w, rec, 503, "unavailable", "busy")
	if rec.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if rec := w.postLines("protect", line("alice", "", "x")); rec.Code != 200 {
		t.Errorf("a small one waits, too: %d", rec.Code)
	}
}

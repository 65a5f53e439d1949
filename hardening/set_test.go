package hardening

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// rotateNow makes a newer pepper the primary at once.
func rotateNow(t *testing.T, w *world) {
	t.Helper()
	w.clock.add(time.Second)
	if _, err := w.node.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

func gesture(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("tap:%04d,line:%04d,circle:%04d padded to fifty", i, i*7, i*13)
	}
	return list
}

func mustSet(t *testing.T, w *world, n, pad int) string {
	t.Helper()
	record, err := w.ProtectSet(t.Context(), SetItem{UID: "alice", Context: "pin", Set: gesture(n), Pad: pad})
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func (w *world) matches(t *testing.T, uid, context, secret, record string) bool {
	t.Helper()
	got, err := w.Verify(t.Context(), Verification{Item: Item{UID: uid, Secret: secret, Context: context}, Record: record})
	if err != nil {
		t.Fatal(err)
	}
	return got.Match
}

func TestSet(t *testing.T) {
	w := newWorld(t, nil)
	record := mustSet(t, w, 100, 0)
	rec, err := parseRecord(record)
	if err != nil || rec.entries != 4096 || len(rec.tag) != 65536 || len(record) > maxSetRecord {
		t.Fatal(err, rec.entries, len(record))
	}
	set := gesture(100)
	for _, i := range []int{0, 1, 50, 99} {
		if !w.matches(t, "alice", "pin", set[i], record) {
			t.Errorf("entry %d does not match", i)
		}
	}
	if w.matches(t, "alice", "pin", "tap", record) || w.matches(t, "bob", "pin", set[0], record) || w.matches(t, "alice", "login", set[0], record) || w.matches(t, "alice", "pin", set[0], "-set") {
		t.Error("a record of a set matches what is not in it")
	}
	// By HTTP, as items have it.
	rest := w.post("protect", `{"uid":"carol","set":["a","b","a"],"pad":8}`)
	var made struct{ Record string }
	if err := json.Unmarshal(rest.Body.Bytes(), &made); err != nil || rest.Code != 200 {
		t.Fatal(rest.Code, rest.Body)
	}
	if !w.matches(t, "carol", "", "b", made.Record) || w.matches(t, "carol", "", "c", made.Record) {
		t.Error("the set of three")
	}
	if e := w.events.last(); e.Count != 8 || e.Subject == "" {
		t.Errorf("the event is %+v", e)
	}
	for name, body := range map[string]string{
		"empty": `{"uid":"u","set":[]}`, "pad below the set": `{"uid":"u","set":["a","b"],"pad":1}`, "pad 0": `{"uid":"u","set":["a"],"pad":0}`, "pad 4097": `{"uid":"u","set":["a"],"pad":4097}`,
		"pad -1": `{"uid":"u","set":["a"],"pad":-1}`, "pad 1.5": `{"uid":"u","set":["a"],"pad":1.5}`, "pad 1e3": `{"uid":"u","set":["a"],"pad":1e3}`, "pad 010": `{"uid":"u","set":["a"],"pad":010}`,
		"no uid": `{"set":["a"]}`, "items beside it": `{"uid":"u","set":["a"],"items":[{"uid":"u","secret":"s"}]}`, "empty entry": `{"uid":"u","set":[""]}`, "number": `{"uid":"u","set":[1]}`,
		"long entry": `{"uid":"u","set":["` + strings.Repeat("x", maxSecret+1) + `"]}`, "slow": `{"uid":"u","set":["a"],"slow":true}`, "nothing": `{"uid":"u"}`,
	} {
		if rec := w.post("protect", body); rec.Code != 400 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	many := strings.Repeat(`"a",`, maxSet) + `"a"`
	wantProblem(t, w, w.post("protect", `{"uid":"u","set":[`+many+`]}`), 413, "too-large", "too-large")
}

// TestSetAttacks: a record of a set that was touched is refused or matches nothing that it should not.
func TestSetAttacks(t *testing.T) {
	w := newWorld(t, nil)
	record := mustSet(t, w, 4, 8)
	rec, err := parseRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	head := record[:strings.LastIndexByte(record, '$')+1]
	with := func(tag []byte) string { return head + base64.RawStdEncoding.EncodeToString(tag) }
	swapped := bytes.Clone(rec.tag)
	copy(swapped[:16], rec.tag[16:32])
	copy(swapped[16:32], rec.tag[:16])
	double := bytes.Clone(rec.tag)
	copy(double[:16], rec.tag[16:32])
	for name, text := range map[string]string{
		"digests swapped":    with(swapped),
		"one digest twice":   with(double),
		"truncated":          with(rec.tag[:len(rec.tag)-16]),
		"cut in a digest":    with(rec.tag[:len(rec.tag)-1]),
		"one more":           with(append(bytes.Clone(rec.tag), bytes.Repeat([]byte{0xff}, 16)...)),
		"wrong count":        strings.Replace(record, ",n=8,", ",n=7,", 1),
		"count 0":            strings.Replace(record, ",n=8,", ",n=0,", 1),
		"count 08":           strings.Replace(record, ",n=8,", ",n=08,", 1),
		"count 4097":         strings.Replace(record, ",n=8,", ",n=4097,", 1),
		"count missing":      strings.Replace(record, ",n=8,", ",", 1),
		"slow step":          strings.Replace(record, ",n=8,", ",s=none,", 1),
		"imported":           strings.Replace(record, "l=p1", "l=d:0123456789abcdef", 1),
		"called no set":      strings.Replace(record, "anteroom-set", "anteroom", 1),
		"record called set":  strings.Replace(goodRecord, "$anteroom$", "$anteroom-set$", 1),
		"without the salt":   strings.Replace(record, base64.RawStdEncoding.EncodeToString(rec.salt), "", 1),
		"longer than any":    record + strings.Repeat("A", maxSetRecord),
		"newline behind it":  record + "\n",
		"context with comma": strings.Replace(record, "c=pin", "c=pi,n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if text == record {
				t.Fatal("the case changes nothing")
			}
			_, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: gesture(1)[0], Context: "pin"}, Record: text})
			if !errors.Is(err, ErrInput) {
				t.Errorf("%v", err)
			}
		})
	}
	// A digest of another account's set, put among this one's, is bound to its own uid and salt.
	other, err := w.ProtectSet(t.Context(), SetItem{UID: "mallory", Context: "pin", Set: []string{"mine"}, Pad: 8})
	if err != nil {
		t.Fatal(err)
	}
	o, err := parseRecord(other)
	if err != nil {
		t.Fatal(err)
	}
	planted := rec
	planted.tag = o.tag
	if w.matches(t, "alice", "pin", "mine", planted.String()) {
		t.Error("digests of another account's set match")
	}
}

// TestSetTellsNothing: taps and lines, few and many: the same length, the same order of nothing, the same number of HMACs.
func TestSetTellsNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.ops = new(atomic.Int64)
	w.macs.Store(nil)
	count := func(f func()) int64 {
		before := w.ops.Load()
		f()
		return w.ops.Load() - before
	}
	var few, many string
	if a, b := count(func() { few = mustSet(t, w, 1, 256) }), count(func() { many = mustSet(t, w, 256, 256) }); a != 256 || b != 256 {
		t.Errorf("a tap takes %d HMACs, lines %d", a, b)
	}
	if len(few) != len(many) {
		t.Errorf("a tap's record has %d bytes, that of lines %d", len(few), len(many))
	}
	set := gesture(256)
	work := count(func() { w.matches(t, "alice", "pin", set[0], few) })
	for name, f := range map[string]func(){
		"last of many": func() { w.matches(t, "alice", "pin", set[255], many) },
		"none":         func() { w.matches(t, "alice", "pin", "x", many) },
		"nobody":       func() { w.matches(t, "alice", "pin", "x", "-set") },
	} {
		if got := count(f); got != work {
			t.Errorf("%s: %d HMACs, want %d", name, got, work)
		}
	}
	// Sorted by their digests, so the first secret is first only by chance.
	first := 0
	for range 40 {
		rec, err := parseRecord(mustSet(t, w, 4, 4))
		if err != nil {
			t.Fatal(err)
		}
		m := w.macsOf(w.node.held())
		tag, err := m.tagOf(&rec, &raw{uid: []byte("alice"), secret: []byte(gesture(1)[0]), context: []byte("pin")})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(rec.tag[:16], tag) {
			first++
		}
	}
	if first > 30 {
		t.Errorf("the first secret's digest came first %d of 40 times", first)
	}
}

// TestSetUpgrade: a set under a newer pepper still matches, says that a better one can be had, and has none to give.
func TestSetUpgrade(t *testing.T) {
	w := newWorld(t, nil)
	record := mustSet(t, w, 3, 16)
	rotateNow(t, w)
	up, err := w.Upgrade(t.Context(), []string{record})
	if err != nil || up[0].Err != nil || !up[0].Changed || !strings.Contains(up[0].Record, ",l=p1.p2,n=16") || len(up[0].Record) != len(record)+3 {
		t.Fatalf("%+v, %v", up, err)
	}
	for _, text := range []string{record, up[0].Record} {
		got, err := w.Verify(t.Context(), Verification{Item: Item{UID: "alice", Secret: gesture(3)[2], Context: "pin"}, Record: text})
		if err != nil || !got.Match || !got.NeedsRehash || got.Record != "" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if w.matches(t, "alice", "pin", "x", up[0].Record) {
		t.Error("an upgraded set matches anything")
	}
	units := w.Stats().Units
	again, err := w.Upgrade(t.Context(), []string{up[0].Record})
	if err != nil || again[0].Changed || again[0].Record != up[0].Record || w.Stats().Units != units {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestUpgradeLeavesNoDebt: a request for more sets than the burst pays for is refused, and costs nothing.
func TestUpgradeLeavesNoDebt(t *testing.T) {
	w := newWorld(t, nil)
	record := mustSet(t, w, 1, 4096)
	rotateNow(t, w)
	w.clock.add(time.Hour)
	wantProblem(t, w, w.post("upgrade", recordsBody([]string{record, record, record}, "")), 413, "too-large", "too-large")
	if w.cfg.Limits.callers.tokens < 4096 {
		t.Error("it cost units")
	}
	if rec := w.post("upgrade", recordsBody([]string{record, record}, "")); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

package hardening

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

// postLines is post with plain lines.
func (w *world) postLines(endpoint, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", Path+"/v1/"+endpoint, strings.NewReader(body))
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	r.Header.Set("Authorization", "Bearer "+testToken)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

func line(uid, context, secret string) string {
	return uid + "\t" + context + "\t" + base64.RawURLEncoding.EncodeToString([]byte(secret)) + "\n"
}

// TestLines: a line in, a line out, in order; a bad line has its own answer and the others go on.
func TestLines(t *testing.T) {
	w := newWorld(t, nil)
	long := strings.Repeat("x", maxSecret)
	good := map[int]Item{
		0: {UID: "alice", Secret: "right"}, 1: {UID: "bob", Secret: "a\x00b\nc", Context: "pin"}, 3: {UID: "größe", Secret: long}, 5: {UID: "last", Secret: "\xff"},
	}
	body := line("alice", "", "right") + line("bob", "pin", "a\x00b\nc") + "alice\tright\n" + line("größe", "", long) + line("x", "a b", "s") + strings.TrimSuffix(line("last", "", "\xff"), "\n")
	rec := w.postLines("protect", body)
	got := strings.Split(rec.Body.String(), "\n")
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "text/plain; charset=utf-8" || len(got) != 7 || got[6] != "" || got[2] != "! input" || got[4] != "! input" {
		t.Fatalf("%d %q", rec.Code, got)
	}
	for i, item := range good {
		if !strings.Contains(got[i], ",s=none") {
			t.Errorf("%q", got[i])
		}
		if res, err := w.Verify(t.Context(), Verification{Item: item, Record: got[i]}); err != nil || !res.Match || res.NeedsRehash {
			t.Errorf("line %d: %+v, %v", i, res, err)
		}
	}
	if e := w.events.last(); e.Count != 6 || e.Route != pathProtect || e.Decision != "allowed" {
		t.Errorf("the event is %+v", e)
	}
	for name, l := range map[string]string{
		"no tab": "x", "one tab": "x\ty", "three tabs": "x\t\tc2U\t", "empty line": "", "no secret": "x\t\t", "no uid": "\t\tc2U", "padding": "x\t\tc2U=", "base64, not url": "x\t\t+/+/",
		"carriage return": "x\t\tc2U\r", "loose bits": "x\t\tc2V", "long uid": strings.Repeat("u", 256) + "\t\tc2U", "long secret": strings.TrimSuffix(line("x", "", long+"x"), "\n"), "blank": "x\t\tc2U ",
	} {
		rec := w.postLines("protect", line("a", "", "s")+l+"\n"+line("b", "", "s"))
		got := strings.Split(rec.Body.String(), "\n")
		if rec.Code != 200 || len(got) != 4 || got[1] != "! input" || !strings.HasPrefix(got[0], "$") || !strings.HasPrefix(got[2], "$") {
			t.Errorf("%s: %d %q", name, rec.Code, got)
		}
	}
	wantProblem(t, w, w.postLines("protect", ""), 400, "input", "input")
	wantProblem(t, w, w.postLines("protect", "\n"), 400, "input", "input")
	wantProblem(t, w, w.postLines("protect", "\xff\t\tc2U\n"), 400, "input", "input")
	wantProblem(t, w, w.postLines("protect", strings.Repeat("x\n", maxBatch+1)), 413, "too-large", "too-large")
	wantProblem(t, w, w.postLines("verify", line("a", "", "s")), 415, "content-type", "content-type")
	wantProblem(t, w, w.postLines("status", "x"), 415, "content-type", "content-type")
	w.cfg.Limits.spend(8192 - 3000)
	wantProblem(t, w, w.postLines("protect", strings.Repeat(line("a", "", "s"), maxBatch)), 429, "too-many", "limit")
}

// TestFastItems: 4096 items without the slow step are one request; with it, 64 are.
func TestFastItems(t *testing.T) {
	w := newWorld(t, nil)
	list := make([]string, maxBatch)
	for i := range list {
		list[i] = fmt.Sprintf(`{"uid":"u%d","secret":"s\u00e9","slow":false}`, i)
	}
	rec := w.post("protect", `{"items":[`+strings.Join(list, ",")+`]}`)
	var made struct{ Items []struct{ Record string } }
	if err := json.Unmarshal(rec.Body.Bytes(), &made); err != nil || rec.Code != 200 || len(made.Items) != maxBatch {
		t.Fatal(rec.Code, err, len(made.Items))
	}
	for _, i := range []int{0, 1, 4095} {
		item := Item{UID: fmt.Sprintf("u%d", i), Secret: "sé"}
		if got, err := w.Verify(t.Context(), Verification{Item: item, Record: made.Items[i].Record}); err != nil || !got.Match {
			t.Errorf("item %d: %+v, %v", i, got, err)
		}
	}
	seen := map[string]bool{}
	for _, m := range made.Items {
		seen[strings.Split(m.Record, "$")[3]] = true
	}
	if len(seen) != maxBatch {
		t.Error("two records share a salt")
	}
	wantProblem(t, w, w.post("protect", `{"items":[`+strings.Join(list, ",")+`,{"uid":"x","secret":"s","slow":false}]}`), 413, "too-large", "too-large")
}

// TestFastIsNotSlow: a record without the slow step cannot be passed off as one with it, nor the other way round, and a fresh
// record has what the old one had.
func TestFastIsNotSlow(t *testing.T) {
	w := newWorld(t, nil)
	item := Item{UID: "alice", Secret: "right"}
	slow, err := w.Protect(t.Context(), []Item{item})
	if err != nil {
		t.Fatal(err)
	}
	fast := fastRecord(t, w.Service, "alice", "right")
	rec, err := parseRecord(slow[0])
	if err != nil {
		t.Fatal(err)
	}
	hash := Item{UID: "alice", Secret: string(slowHash("right", rec.salt))}
	if got, err := w.Verify(t.Context(), Verification{Item: hash, Record: strings.Replace(slow[0], slowText, "none", 1)}); err != nil || got.Match {
		t.Errorf("A143: whoever has the slow hash passes with it: %+v, %v", got, err)
	}
	for _, forged := range []string{strings.Replace(slow[0], slowText, "none", 1), strings.Replace(fast, "s=none", "s="+slowText, 1)} {
		if got, err := w.Verify(t.Context(), Verification{Item: item, Record: forged}); err != nil || got.Match {
			t.Errorf("%s: %+v, %v", forged, got, err)
		}
	}
	rotateNow(t, w)
	if got, err := w.Verify(t.Context(), Verification{Item: item, Record: fast}); err != nil || !strings.Contains(got.Record, "l=p2,s=none") {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := w.Verify(t.Context(), Verification{Item: item, Record: slow[0]}); err != nil || !strings.Contains(got.Record, "l=p2,s="+slowText) {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzLines: as many answers as lines; what is accepted is within the bounds.
func FuzzLines(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		lines, err := splitLines(bytes.Clone(body))
		if err != nil {
			if !errors.Is(err, ErrInput) && !errors.Is(err, errTooLarge) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		var items []raw
		for _, l := range lines {
			var item raw
			parseLine(&item, bytes.Clone(l))
			items = append(items, item)
		}
		if _, n, err := countLines(body); n != len(items) || err != nil || n > maxBatch {
			t.Fatalf("%d items of %d lines, %v", len(items), n, err)
		}
		for i, item := range items {
			if item.bad != "" {
				continue
			}
			again := line(string(item.uid), string(item.context), string(item.secret))
			if item.check() != nil || !item.fast || again != string(lines[i])+"\n" {
				t.Errorf("accepted %q", lines[i])
			}
		}
	})
}

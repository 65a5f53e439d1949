package rekey

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
)

func journaled() *Operation {
	return &Operation{
		Version: 1, ID: audit.NewRef(), Verb: CompromisedData, Target: keyA, State: StateRunning, Phase: stepValues, Began: time.Unix(1893553400, 0).UTC(),
		Cursor: "x", IDs: []string{keyA}, Before: map[string]int{keyA: 3}, Steps: []Step{{Name: stepCount, Began: time.Unix(1893553400, 0).UTC()}},
	}
}

// A journal that is damaged, of a newer version or forged in its shape is not worked at.
func TestJournalRefuses(t *testing.T) {
	good, err := journaled().encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeOperation(good); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "null": "null", "more": string(good) + "{}", "unknown member": strings.Replace(string(good), `{"v"`, `{"new":1,"v"`, 1),
		"version": strings.Replace(string(good), `"v":1`, `"v":2`, 1), "verb": strings.Replace(string(good), "compromised-data", "other", 1),
		"phase of another verb": strings.Replace(string(good), stepValues, stepPepper, 1), "state": strings.Replace(string(good), "running", "paused", 1),
		"negative": strings.Replace(string(good), `"seen":0`, `"seen":-1`, 1), "long": string(good) + strings.Repeat(" ", maxJournal),
	} {
		if op, err := decodeOperation([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, op)
		}
	}
}

func FuzzOperation(f *testing.F) {
	good, err := journaled().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, text []byte) {
		op, err := decodeOperation(text)
		if err != nil {
			return
		}
		again, err := op.encode()
		if err != nil {
			return // what grew above the bound
		}
		op2, err := decodeOperation(again)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if third, err := op2.encode(); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("two spellings: %s %s", again, third)
		}
		_ = op.stale("v1:x")
	})
}

func TestLabelsDiffer(t *testing.T) {
	if labelJournal == labelReport || strings.HasPrefix(labelReport, labelJournal) || strings.HasPrefix(labelJournal, labelReport) {
		t.Error("two purposes share a label")
	}
}

package hardening

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestProtectThenVerify(t *testing.T) {
	w := newWorld(t, nil)
	alice := Item{UID: "alice", Secret: "correct horse", Context: "pin"}
	records, err := w.Protect(t.Context(), []Item{alice, alice})
	if err != nil {
		t.Fatal(err)
	}
	if records[0] == records[1] {
		t.Error("two records of one secret are alike: there is no salt")
	}
	for name, c := range map[string]struct {
		item  Item
		match bool
	}{
		"right":             {alice, true},
		"wrong secret":      {Item{UID: "alice", Secret: "correct horsf", Context: "pin"}, false},
		"secret and a NUL":  {Item{UID: "alice", Secret: "correct horse\x00", Context: "pin"}, false},
		"another uid":       {Item{UID: "bob", Secret: "correct horse", Context: "pin"}, false},
		"another context":   {Item{UID: "alice", Secret: "correct horse", Context: "login"}, false},
		"no context":        {Item{UID: "alice", Secret: "correct horse"}, false},
		"fields run across": {Item{UID: "pinalice", Secret: "correct horse"}, false},
	} {
		got, err := w.Verify(t.Context(), Verification{Item: c.item, Record: records[0]})
		if err != nil || got.Match != c.match || got.NeedsRehash || got.Record != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	// An account that does not exist: the same work, and no.
	if got, err := w.Verify(t.Context(), Verification{Item: alice, Record: "-"}); err != nil || got.Match {
		t.Errorf("record -: %+v, %v", got, err)
	}
}

// TestLayers: a record from before a rotation, and one that was moved under a newer pepper without its password, verify
// and come back as a plain record of the newest pepper.
func TestLayers(t *testing.T) {
	w := newWorld(t, nil)
	item := Item{UID: "alice", Secret: "correct horse"}
	old, err := w.Protect(t.Context(), []Item{item})
	if err != nil {
		t.Fatal(err)
	}
	rotateNow(t, w)
	rotated := w.node.held()
	layered, err := parseRecord(old[0])
	if err != nil {
		t.Fatal(err)
	}
	layered.layers = append(layered.layers, "p2")
	layered.tag = overTag(rotated.key("p2"), "p1", layered.tag)
	for _, record := range []string{old[0], layered.String()} {
		got, err := w.Verify(t.Context(), Verification{Item: item, Record: record})
		if err != nil || !got.Match || !got.NeedsRehash || !strings.Contains(got.Record, ",l=p2,") {
			t.Fatalf("%+v, %v", got, err)
		}
		again, err := w.Verify(t.Context(), Verification{Item: item, Record: got.Record})
		if err != nil || !again.Match || again.NeedsRehash {
			t.Errorf("the fresh record: %+v, %v", again, err)
		}
	}
	// The layer's label keeps a layered tag from being a plain one: dropping or adding a name must not verify.
	layered.layers = []string{"p2"}
	if got, _ := w.Verify(t.Context(), Verification{Item: item, Record: layered.String()}); got.Match {
		t.Error("a layered tag verifies as a plain one")
	}
	for name, record := range map[string]string{
		"pepper that we do not have": strings.Replace(old[0], "l=p1", "l=p1.p9", 1),
		"another ring":               strings.Replace(old[0], rotated.file.Ring, "0123456789abcdef", 1),
	} {
		if _, err := w.Verify(t.Context(), Verification{Item: item, Record: record}); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLibraryRefusals(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	if _, err := w.Protect(ctx, nil); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if _, err := w.Protect(ctx, make([]Item, maxBatch+1)); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if _, err := w.Protect(ctx, []Item{{UID: "u"}}); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if _, err := w.Protect(ctx, slices.Repeat([]Item{{UID: "u", Secret: "s"}}, maxItems+1)); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if _, err := w.Verify(ctx, Verification{}); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if _, err := w.Verify(ctx, Verification{Item: Item{UID: "u", Secret: "s"}, Record: "$2b$12$bcrypt"}); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	for _, rounds := range []int{-1, 0, 100001} {
		if _, err := w.Original(ctx, []byte("x"), rounds); !errors.Is(err, ErrInput) {
			t.Errorf("%d rounds: %v", rounds, err)
		}
	}
	w.slots = newSlots(1, 0)
	if err := w.slots.take(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Protect(ctx, []Item{{UID: "u", Secret: "s"}}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := w.Verify(ctx, Verification{Item: Item{UID: "u", Secret: "s"}, Record: "-"}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if len(w.cfg.Limits.failures) != 0 {
		t.Error("a try that was not evaluated counts as a failure")
	}
	unpinned := w.node.held().clone()
	unpinned.body.Compat = ""
	w.node.publish(unpinned, nil)
	if _, err := w.Original(ctx, []byte("x"), 1); !errors.Is(err, ErrWaiting) {
		t.Error(err)
	}
}

func TestServiceConfig(t *testing.T) {
	w := newWorld(t, nil)
	good := w.cfg
	for name, change := range map[string]func(*Config){
		"no ring":         func(c *Config) { c.Ring = nil },
		"no limits":       func(c *Config) { c.Limits = nil },
		"no facts":        func(c *Config) { c.Facts = nil },
		"no audit":        func(c *Config) { c.Audit = nil },
		"no hosts":        func(c *Config) { c.Hosts = nil },
		"nobody may call": func(c *Config) { c.Callers.Token, c.MaxRounds = nil, 0 },
		"negative rounds": func(c *Config) { c.MaxRounds = -1 },
		"too many rounds": func(c *Config) { c.MaxRounds = maxRoundsCap + 1 },
		"no pinned key":   func(c *Config) { c.Ring = newNode(t, openBolt(t), w.clock, nil).Ring },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good.Now, good.Logger = nil, nil
	if s, err := New(good); err != nil || s.cfg.Now == nil || s.cfg.Logger == nil {
		t.Error(err)
	}
}

// TestNothingPrintsSecrets: whatever way a value of ours gets into a message, its secrets stay out of it.
func TestNothingPrintsSecrets(t *testing.T) {
	k := testKey(t, newClock())
	secret, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := secret.priv.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{k.extract, k.original[:], raw}
	for _, v := range []any{k, &k, []TLSKey{k}, secret} {
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(j)
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %X %d", v, v, v, v, v, v, v, v)
		for _, s := range secrets {
			for _, form := range []string{string(s), fmt.Sprintf("%x", s), fmt.Sprintf("%v", s), fmt.Sprintf("%X", s), strings.Trim(fmt.Sprint(s), "[]")} {
				if strings.Contains(out.String(), form) {
					t.Errorf("%T prints a secret: %s", v, out.String())
				}
			}
		}
	}
}

func TestUnusableTLSKeys(t *testing.T) {
	if _, err := NewTLSKey(struct{}{}, time.Time{}); err == nil || !strings.Contains(err.Error(), "cannot be exported") {
		t.Errorf("a key in hardware: %v", err)
	}
	odd := &ecdsa.PrivateKey{PublicKey: ecdsa.PublicKey{Curve: &elliptic.CurveParams{Name: "odd"}}}
	if _, err := NewTLSKey(odd, time.Time{}); err == nil || !strings.HasPrefix(err.Error(), "reading TLS key: ") {
		t.Errorf("an unknown curve: %v", err)
	}
}

// TestSeeds: a fuzz target without its seeds passes and tests nothing.
func TestSeeds(t *testing.T) {
	for _, name := range []string{"FuzzRecord", "FuzzCompatQuery", "FuzzProtectRequest", "FuzzLines", "FuzzRecordsRequest", "FuzzVerifyRequest", "FuzzFailures"} {
		if seeds, _ := os.ReadDir(filepath.Join("testdata", "fuzz", name)); len(seeds) < 4 {
			t.Errorf("%s has %d seeds", name, len(seeds))
		}
	}
}

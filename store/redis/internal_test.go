package redis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// TestLivingReplica reads what Clusters say of themselves. A replica that lives and is
// not attached becomes the master, or has just become it.
func TestLivingReplica(t *testing.T) {
	const self = "aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460\n"
	for line, want := range map[string]bool{
		"": false,
		"bb 127.0.0.1:3@4 slave aa 0 1 1 connected\n":                   true,
		"bb 127.0.0.1:3@4,host slave aa 0 1 1 connected\r\n":            true,
		"bb 127.0.0.1:3@4 slave,fail aa 0 1 1 disconnected\n":           false,
		"bb 127.0.0.1:3@4 slave,fail? aa 0 1 1 connected\n":             false,
		"bb 127.0.0.1:3@4 slave cc 0 1 1 connected\n":                   false,
		"bb 127.0.0.1:3@4 master - 0 1 2 connected 5461-10922\n":        false,
		"bb 127.0.0.1:3@4 slave\ncc\n\n":                                false,
		"bb 1:3@4 slave,fail aa 0 1\ncc 1:5@6 slave aa 0 1 1 connected": true,
	} {
		for _, nodes := range []string{self + line, line + "\n" + self} {
			if got := livingReplica(nodes); got != want {
				t.Errorf("livingReplica(%q) = %v", nodes, got)
			}
		}
	}
}

// TestLivesFor reads what Sentinels say of replicas.
func TestLivesFor(t *testing.T) {
	for _, c := range []struct {
		flags, heard string
		want         bool
	}{
		{"slave", "120", true},
		{"slave", "0", true},
		{"slave,disconnected", "120", true}, // a failover breaks its connections
		{"slave,disconnected", "0", false},  // the dead master of before
		{"s_down,slave,disconnected", "120", false},
		{"s_down,slave", "0", false},
		{"o_down,slave", "5", false},
	} {
		if got := livesFor(map[string]string{"flags": c.flags, "info-refresh": c.heard}); got != c.want {
			t.Errorf("livesFor(%q, %s) = %v", c.flags, c.heard, got)
		}
	}
}

// TestLabels: one purpose, one label, and no name in Redis begins like another.
func TestLabels(t *testing.T) {
	labels := []string{labelKey, labelValue, labelEntry, labelProbe, labelPlain, labelFileName, labelFile, labelFileEntry, labelLock}
	names := []string{nameValue, nameFeed, nameFeedCopy, nameFeedOwner, nameProbe, namePlain, nameFile, nameFileIndex, nameLock}
	for _, all := range [][]string{labels, names} {
		for i, a := range all {
			for j, b := range all {
				if i != j && strings.HasPrefix(a+" ", b+" ") || i != j && strings.HasPrefix(a, b) && a != b && len(b) < 4 {
					t.Errorf("%q and %q", a, b)
				}
			}
		}
	}
	for _, l := range labels {
		if !strings.HasPrefix(l, "anteroom/store/redis/") || !strings.HasSuffix(l, "/v1") {
			t.Errorf("label %q", l)
		}
	}
}

// TestMayMiss: an entry may be gone half an hour after its expiry, and is removed an
// hour after it: what one node removes, no other still expects.
func TestMayMiss(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]bool{
		-time.Hour: false, 0: false, missAfter - time.Second: false, missAfter: true, sweepAfter: true,
	} {
		if got := (position{ms: 1, expires: stamp(now.Add(-ago))}).mayMiss(now); got != want {
			t.Errorf("expired %v ago: %v", ago, got)
		}
	}
	if (position{ms: 1}).mayMiss(now) {
		t.Error("an entry that never expires may be missed")
	}
}

// FuzzCursor: each position has one form, and nothing else is one.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "1795318615714-2.1795322215714085882", "1-0.0", "0-1.0", "0-0.0", "01-1.0", "1-1", "-1.1", "+1-1.1", "18446744073709551615-18446744073709551615.18446744073709551615", "0000000000000001"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := parseCursor(cursor)
		switch {
		case err != nil && !strings.Contains(err.Error(), store.ErrInvalid.Error()):
			t.Fatal(err)
		case err != nil && p != position{}:
			t.Fatalf("%q is refused and is %v", cursor, p)
		case err == nil && cursor != "" && (p.cursor() != cursor || p == position{}):
			t.Fatalf("%q is read as %q", cursor, p.cursor())
		case err == nil && strings.ContainsAny(cursor, " \r\n\x00+*$"):
			t.Fatalf("%q is taken for a cursor", cursor)
		}
	})
}

// TestAnswerBeforeItsEnd: an answer ends the call's own context; which of the two is seen first must not matter.
func TestAnswerBeforeItsEnd(t *testing.T) {
	s := &Store{conf: Config{Addresses: []string{"127.0.0.1:1"}}, closing: make(chan struct{})}
	for range 20_000 {
		_, err := await(t.Context(), s, "asking", time.Minute, func(context.Context) (none, error) { return none{}, errors.New("NOPERM for you") })
		if err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Fatalf("the answer became %v", err)
		}
	}
}

// TestMyself reads a server's own line. What cannot be read, and a slot under way, is never
// taken for a server without slots.
func TestMyself(t *testing.T) {
	const other = "bb 127.0.0.1:3@4 master - 0 0 7 connected 0-16383\n"
	for line, want := range map[string]struct {
		id string
		n  int
		ok bool
	}{
		"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460":            {"aa", 5461, true},
		"aa 127.0.0.1:1@2,host myself,master - 0 0 1 connected 0-9 12 16383": {"aa", 12, true},
		"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected":                   {"aa", 0, true},
		"aa 127.0.0.1:1@2 myself,slave bb 0 0 1 connected":                   {"", 0, true},
		"aa 127.0.0.1:1@2 master - 0 0 1 connected 0-5460":                   {"", 0, false},
		"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460 [93->-bb]":  {"", 0, false},
		"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected [93-<-bb]":         {"", 0, false},
		"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 9-3":               {"", 0, false},
		"aa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-16384":           {"", 0, false},
		"x.y 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460":           {"", 0, false},
		"aa 127.0.0.1:1@2 myself,master":                                     {"", 0, false},
		"aa 127.0.0.1:1@2 notmyself,master - 0 0 1 connected 0-5460":         {"", 0, false},
	} {
		for _, nodes := range []string{other + line, line + "\n" + other} {
			id, _, n, err := myself(nodes)
			if id != want.id || n != want.n || (err == nil) != want.ok {
				t.Errorf("myself(%q) = %q, %d, %v", nodes, id, n, err)
			}
		}
	}
	_, before, _, _ := myself("aa 1:1@2 myself,master - 0 5 1 connected 0-9")
	for line, same := range map[string]bool{
		"aa 1:1@2 myself,master - 0 77 1 connected 0-9":   true, // the time of a pong
		"aa 1:1@2 myself,master - 0 5 2 connected 0-9":    false,
		"aa 1:1@2 myself,master - 0 5 1 connected 0-8":    false,
		"aa 1:1@2 myself,master - 0 5 1 connected 0-9 12": false,
	} {
		if _, after, _, _ := myself(line); (after == before) != same {
			t.Errorf("%q is told as %q; before %q", line, after, before)
		}
	}
}

// FuzzPlace: each place has one form, and nothing else is one.
func FuzzPlace(f *testing.F) {
	for _, seed := range []string{"", "w1.-.-.-.1", "w1.ab.cd.ef.18446744073709551615", "w1.-.-.-.01", "w1.....1", "w2.-.-.-.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := parsePlace(cursor)
		if err == nil && cursor != "" && p.String() != cursor || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Fatalf("%q is read as %q, %v", cursor, p, err)
		}
	})
}

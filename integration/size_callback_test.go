package integration

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// forgedCallback is the query and the cookie of a sign-in that nobody began. Whoever reads the source can name the cookie; to seal
// one takes the master key.
func forgedCallback(i int) (path string, extra [][2]string) {
	state := rand.Text() + rand.Text()
	path = "/.anteroom/callback/hospital?code=" + rand.Text() + "&state=" + state
	if i%2 == 0 {
		return path, nil
	}
	sum := sha256.Sum256([]byte("anteroom/portal/attempt-id/v1\x00" + state))
	sealed := make([]byte, 300)
	rand.Read(sealed)
	cookie := "__Host-anteroom-try-" + base64.RawURLEncoding.EncodeToString(sum[:16]) + "=" +
		strconv.FormatInt(time.Now().Unix(), 36) + "." + base64.RawURLEncoding.EncodeToString(sealed)
	return path, [][2]string{{"cookie", cookie}}
}

// 20,000 callbacks of sign-ins that nobody began. Each is refused and stands in the audit log; none reaches the provider, and none
// leaves anything in memory or in the store.
func TestSizeForgedCallbacks(t *testing.T) {
	const callbacks, record = 20_000, 512 // bytes of a record, at most
	reasons := func(r *rig) map[string]int {
		counts := map[string]int{}
		for _, e := range r.audit(t) {
			counts[e.str("reason")]++
		}
		return counts
	}
	for name, test := range map[string]struct {
		extra func(i int) [][2]string
		check func(t *testing.T, answers, reasons map[string]int, took time.Duration)
	}{
		"many addresses": {
			func(i int) [][2]string { return [][2]string{stranger(i)} },
			func(t *testing.T, answers, reasons map[string]int, _ time.Duration) {
				if answers["400"] != callbacks || len(answers) != 1 {
					t.Errorf("answers by status: %v, want %d times 400", answers, callbacks)
				}
				for _, reason := range []string{"attempt.missing", "attempt.unreadable"} {
					if reasons[reason] != callbacks/2 {
						t.Errorf("%d records say %s, want %d: %v", reasons[reason], reason, callbacks/2, reasons)
					}
				}
			},
		},
		"one address": { // which may ask 600 times, and ten times more each second; the rest must not fill the disk
			func(int) [][2]string { return nil },
			func(t *testing.T, answers, reasons map[string]int, took time.Duration) {
				most := 600 + 10*(int(took.Seconds())+1)
				if answers["400"] > most || answers["400"]+answers["429"] != callbacks {
					t.Errorf("answers by status in %v: %v, want at most %d times 400 and the rest 429", took, answers, most)
				}
				if recorded := reasons["attempt.missing"] + reasons["attempt.unreadable"]; recorded != answers["400"] {
					t.Errorf("%d records for %d callbacks that were looked at", recorded, answers["400"])
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sizeConfig)
			dana := r.person(t, appHost, "dana")
			file := filepath.Join(r.dataDir(), "anteroom", "store.db")
			before, asked, stored := r.usage(t), r.op.counts(t)["/token"], bytesBelow(t, file)
			began := time.Now()
			f := newFlood(t, r, appHost, callbacks, func(i int) (string, [][2]string) {
				path, extra := forgedCallback(i)
				return path, append(extra, test.extra(i)...)
			})
			answers := f.wait(t)
			took := time.Since(began)
			after := r.settled(t, before)
			test.check(t, answers, reasons(r), took)
			t.Logf("%d callbacks in %v (%.0f/s): %v", callbacks, took.Round(time.Millisecond), callbacks/took.Seconds(), answers)
			bounded(t, before, after)
			if now := bytesBelow(t, file); now != stored {
				t.Errorf("the store's file had %d bytes and has %d", stored, now)
			}
			if grown := after.audit - before.audit; grown > record*answers["400"] {
				t.Errorf("the audit log has grown by %d bytes for each refusal", grown/answers["400"])
			}
			if now := r.op.counts(t)["/token"]; asked == 0 || now != asked {
				t.Errorf("the provider was asked for tokens %d times before and %d times now", asked, now)
			}
			if got := r.status(t, appHost, "/members/x", dana); got != 200 {
				t.Errorf("somebody who had signed in is answered %d", got)
			}
		})
	}
}

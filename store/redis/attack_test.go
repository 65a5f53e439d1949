package redis_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// TestRow163TakeAndSwap: the same one-time value is asked for by Take and by
// CompareAndSwap on three nodes at one moment. A value that two of them get is a code
// that works twice.
func TestRow163TakeAndSwap(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c := config(t, server)
		nodes := []*redis.Store{patient(t, c), patient(t, c), patient(t, c)}
		for round := range 5 {
			key := fmt.Sprint("code ", round)
			if err := nodes[0].Put(t.Context(), key, []byte("unused"), time.Time{}); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex // guards got
			got, unsure := map[string]int{}, 0
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					s, won := nodes[i%3], ""
					var err error
					if i%2 == 0 {
						var b []byte
						b, err = s.Take(t.Context(), key)
						won = "take " + string(b)
					} else {
						err = s.CompareAndSwap(t.Context(), key, []byte("unused"), []byte("used"), time.Time{})
						won = "swap"
					}
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						got[won]++
					case errors.Is(err, store.ErrUnavailable): // too much at once for a busy machine: nobody was told that they have it
						unsure++
					case !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			had := got["take unused"] + got["swap"]
			if had > 1 || had == 0 && unsure == 0 || got["take used"] > 1 {
				t.Fatalf("round %d: %v, %d unsure; want one that had the unused value", round, got, unsure)
			}
		}
	})
}

// TestRow164DumpShowsNothing: whoever steals the files of Redis, with every command of
// the past, or lists its keys, finds no id, no token and no name.
func TestRow164DumpShowsNothing(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			server := f.start(t, redistest.Secure(), redistest.Prefix("*"))
			c := config(t, server)
			s := patient(t, c)
			ctx := t.Context()
			secrets := []string{"anteroom/session/v1/sid-4711", "eyJhbGciOiJFZERTQSJ9.token", "Dr. Needle-Haystack", "needle@hospital.example", "user/needle-name", "REVOKED needle"}
			for i, secret := range secrets {
				key := fmt.Sprint(secret, i)
				for _, err := range []error{
					s.Put(ctx, key, []byte(secret), time.Now().Add(time.Hour)),
					s.CompareAndSwap(ctx, key, []byte(secret), []byte("{\"n\":\""+secret+"\"}"), time.Time{}),
					s.Put(ctx, "taken "+secret, []byte(secret), time.Time{}),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.Take(ctx, "taken "+secret); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Append(ctx, []byte(secret), time.Now().Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			server.Do("SET", c.Prefix+":hay", "what stands in plain is found")
			dump := server.Dump()
			if !bytes.Contains(dump, []byte("what stands in plain is found")) {
				t.Fatal("the dump does not show what stands in plain: the test would see nothing")
			}
			text := strings.Join(names(t, c), "\n")
			for _, secret := range secrets {
				for _, part := range []string{secret, strings.ToUpper(secret), secret[len(secret)/2:]} {
					if bytes.Contains(dump, []byte(part)) || strings.Contains(text, part) {
						t.Errorf("%q stands in Redis", part)
					}
				}
			}
		})
	}
}

// TestRow165Exchanged: whoever can write to Redis moves values, makes some up, prolongs
// them or changes their type. Nothing of it is ever taken for a value, or for an absent
// one, which would let a node make a new signing key over one that is only damaged.
func TestRow165Exchanged(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, other, now := config(t, server), config(t, server), newClock()
		c.Now, other.Now = now.now, now.now
		s, ctx, client := patient(t, c), t.Context(), raw(t, c)
		for key, value := range map[string]string{"sid/doctor": "roles=doctor", "sid/patient": "roles=patient", "short": "over"} {
			expires := now.in(time.Hour)
			if key == "short" {
				expires = now.in(time.Minute)
			}
			if err := s.Put(ctx, key, []byte(value), expires); err != nil {
				t.Fatal(err)
			}
		}
		sealed := map[string][]byte{}
		for _, name := range names(t, c) {
			if strings.Contains(name, ":k:") {
				b, err := client.Get(ctx, name).Bytes()
				if err != nil {
					t.Fatal(err)
				}
				sealed[name] = b
			}
		}
		// Their lengths tell which is which.
		byLength := slices.SortedFunc(maps.Keys(sealed), func(a, b string) int { return len(sealed[a]) - len(sealed[b]) })
		if len(byLength) != 3 {
			t.Fatalf("%d values in Redis", len(byLength))
		}
		short, doctor, patient := byLength[0], byLength[1], byLength[2]
		refused := func(what string) {
			t.Helper()
			for _, key := range []string{"sid/doctor", "sid/patient"} {
				v, err := s.Get(ctx, key)
				is(t, err, store.ErrUnavailable, what+": Get")
				is(t, s.CompareAndSwap(ctx, key, nil, []byte("mine"), time.Time{}), store.ErrUnavailable, what+": swap of an absent key")
				is(t, s.CompareAndSwap(ctx, key, v, []byte("mine"), time.Time{}), store.ErrUnavailable, what+": swap")
			}
			_, err := s.List(ctx, "sid/")
			is(t, err, store.ErrUnavailable, what+": List")
		}
		set := func(name string, value any) {
			t.Helper()
			if err := client.Set(ctx, name, value, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		set(doctor, sealed[patient])
		set(patient, sealed[doctor])
		refused("exchanged")
		set(doctor, "")
		set(patient, "roles=doctor")
		refused("made up")
		flipped := bytes.Clone(sealed[patient])
		flipped[len(flipped)-1] ^= 1
		set(patient, flipped)
		set(doctor, append(bytes.Clone(sealed[doctor]), 0))
		refused("changed")
		for _, name := range []string{doctor, patient} {
			client.Del(ctx, name)
			if err := client.XAdd(ctx, &goredis.XAddArgs{Stream: name, Values: []any{"v", sealed[name]}}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		refused("of another type")
		_, err := s.Take(ctx, "sid/doctor")
		is(t, err, store.ErrUnavailable, "Take of another type")
		for _, name := range []string{doctor, patient} {
			client.Del(ctx, name)
		}

		// Prolonged: Redis keeps it for ever, and it is over all the same.
		now.advance(time.Minute)
		set(short, sealed[short])
		_, err = s.Get(ctx, "short")
		is(t, err, store.ErrNotFound, "Get of a prolonged value")

		// Moved to another installation with the same master key.
		o := open(t, other)
		set(other.Prefix+strings.TrimPrefix(doctor, c.Prefix), sealed[doctor])
		_, err = o.Get(ctx, "sid/doctor")
		is(t, err, store.ErrUnavailable, "Get of a value of another prefix")
	})
}

// TestRow165ForgedEntry: somebody writes to the feed. No entry that is not ours is
// skipped, because it may have been ours before.
func TestRow165ForgedEntry(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		for what, values := range map[string][]any{
			"garbage": {"v", "revoke nobody"}, "empty": {"v", ""}, "another field": {"x", "y"},
		} {
			c := config(t, server)
			s, ctx := patient(t, c), t.Context()
			cursor, err := s.Append(ctx, []byte("one"), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if err := raw(t, c).XAdd(ctx, &goredis.XAddArgs{Stream: c.Prefix + ":{feed}:s", Values: values}).Err(); err != nil {
				t.Fatal(err)
			}
			_, err = s.After(ctx, cursor, 0)
			is(t, err, store.ErrUnavailable, what)
			is(t, s.Wait(ctx, cursor), store.ErrUnavailable, what+": Wait")
		}
	})
}

// TestRow166KeyInjection: text of strangers in keys, with what means something to the
// protocol, to patterns, to hash tags and to format strings (CVE-2021-32785). Each key is
// one name of one form in Redis, and touches no other.
func TestRow166KeyInjection(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c := config(t, server)
		s, ctx := patient(t, c), t.Context()
		keys := []string{
			"user", "user\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "user:", ":user", "{user}", "{feed}", "}{", "user\x00", "\x00user",
			"%s%n%s%n", "%d", "*", "?", "[a-z]", "user*", `\`, `"`, "'", "$1", "KEYS[1]", "'] redis.call('FLUSHALL') --",
			c.Prefix + ":{feed}:s", c.Prefix + ":k:", "\xff\xfe", strings.Repeat("x", store.MaxKey), strings.Repeat("x", store.MaxKey-1), strings.Repeat("\r\n", store.MaxKey/2),
		}
		if _, err := s.Append(ctx, []byte("an entry"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			if err := s.CompareAndSwap(ctx, k, nil, fmt.Append(nil, i), time.Time{}); err != nil {
				t.Fatalf("%.40q: %v", k, err)
			}
		}
		form := regexp.MustCompile(`^` + c.Prefix + `:k:[0-9a-f]{64}$`)
		values := 0
		for _, name := range names(t, c) {
			switch {
			case form.MatchString(name):
				values++
			case name != c.Prefix+":{feed}:s" && name != c.Prefix+":probe":
				t.Errorf("Redis has the name %q", name)
			}
		}
		if values != len(keys) {
			t.Errorf("Redis has %d values; want %d", values, len(keys))
		}
		for i, k := range keys {
			if err := s.CompareAndSwap(ctx, k, fmt.Append(nil, i), fmt.Append(nil, i, "!"), time.Time{}); err != nil {
				t.Errorf("%.40q: %v", k, err)
			}
			got, err := s.Take(ctx, k)
			if err != nil || string(got) != fmt.Sprint(i, "!") {
				t.Errorf("%.40q: %q, %v", k, got, err)
			}
		}
		if items, err := s.List(ctx, ""); err != nil || len(items) != 0 {
			t.Errorf("left: %v, %v", items, err)
		}
		if e, err := s.After(ctx, "", 0); err != nil || len(e) != 1 {
			t.Errorf("the feed has %d entries, %v", len(e), err)
		}
	})
}

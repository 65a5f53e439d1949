package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

func (f *fixture) append(value string, expires time.Time) string {
	f.Helper()
	cursor, err := f.Append(f.Context(), []byte(value), expires)
	if err != nil || cursor == "" {
		f.Fatalf("Append = %q, %v", cursor, err)
	}
	return cursor
}

// after reads from cursor and returns the values and the last cursor.
func (f *fixture) after(cursor string, limit int) ([]string, string) {
	f.Helper()
	entries, err := f.After(f.Context(), cursor, limit)
	if err != nil {
		f.Fatalf("After(%q): %v", cursor, err)
	}
	var values []string
	for _, e := range entries {
		values = append(values, string(e.Value))
		cursor = e.Cursor
	}
	return values, cursor
}

func feedOrder(f *fixture) {
	if got, _ := f.after("", 10); len(got) != 0 {
		f.Fatalf("a new feed has %q", got)
	}
	for i := range 30 {
		f.append(fmt.Sprint(i), time.Time{})
	}
	got, _ := f.after("", 0)
	if len(got) != 30 {
		f.Fatalf("After has %d entries; want 30", len(got))
	}
	for i, v := range got {
		if v != fmt.Sprint(i) {
			f.Fatalf("entry %d is %s", i, v)
		}
	}
	f.append("", time.Time{})
	if got, _ := f.after("", 0); len(got) != 31 || got[30] != "" {
		f.Fatalf("an empty entry is lost: %q", got)
	}
	// The feed and the keys do not know each other.
	if items, err := f.List(f.Context(), ""); err != nil || len(items) != 0 {
		f.Fatalf("List shows feed entries: %v, %v", items, err)
	}
}

func feedResume(f *fixture) {
	first := f.append("a", time.Time{})
	f.append("b", time.Time{})
	last := f.append("c", time.Time{})
	if got, _ := f.after(first, 10); strings.Join(got, "") != "bc" {
		f.Fatalf("after the first entry: %q", got)
	}
	if got, _ := f.after(last, 10); len(got) != 0 {
		f.Fatalf("after the last entry: %q", got)
	}
	f.append("d", time.Time{})
	if got, _ := f.after(last, 10); strings.Join(got, "") != "d" {
		f.Fatalf("after the once last entry: %q", got)
	}
	// Pages of one read everything once.
	var all []string
	for cursor := ""; ; {
		got, next := f.after(cursor, 1)
		if len(got) == 0 {
			break
		}
		if len(got) > 1 {
			f.Fatalf("a limit of 1 gave %q", got)
		}
		all = append(all, got...)
		cursor = next
	}
	if strings.Join(all, "") != "abcd" {
		f.Fatalf("page by page: %q", all)
	}
}

// feedExpiry: expired entries are not shown, later ones are not hidden by them, and a
// cursor of an entry that has gone still works.
func feedExpiry(f *fixture) {
	cursor := f.append("short", f.in(time.Second))
	f.append("long", f.in(time.Hour))
	f.append("short too", f.in(time.Second))
	f.append("never", time.Time{})
	f.clock.advance(time.Minute)
	if got, _ := f.after("", 0); strings.Join(got, ",") != "long,never" {
		f.Fatalf("After shows %q", got)
	}
	if got, _ := f.after("", 1); strings.Join(got, ",") != "long" {
		f.Fatalf("a limit counts live entries; After shows %q", got)
	}
	if got, _ := f.after(cursor, 0); strings.Join(got, ",") != "long,never" {
		f.Fatalf("after an expired cursor: %q", got)
	}
	f.clock.advance(2 * time.Hour)
	_, end := f.after("", 0)
	f.append("new", time.Time{})
	if got, _ := f.after(end, 0); strings.Join(got, ",") != "new" {
		f.Fatalf("after everything else has expired: %q", got)
	}
}

func feedCursors(f *fixture) {
	f.append("a", time.Time{})
	for _, cursor := range []string{"x", "0", "-1", " ", "../a", strings.Repeat("0", 100), "\x00"} {
		_, err := f.After(f.Context(), cursor, 1)
		f.is(err, store.ErrInvalid, fmt.Sprintf("After(%.20q)", cursor))
	}
}

// feedRace: whoever follows while many append sees every entry once, in an order in
// which nobody's own entries are swapped. An entry that appears behind a cursor would
// be a revocation that one node never learns of.
func feedRace(f *fixture) {
	const writers, each = 8, 15
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	var seen []string
	var follower sync.WaitGroup
	follower.Go(func() {
		for cursor := ""; len(seen) < writers*each && ctx.Err() == nil; {
			entries, err := f.After(f.Context(), cursor, 7)
			if err != nil {
				f.Error(err)
				return
			}
			for _, e := range entries {
				seen = append(seen, string(e.Value))
				cursor = e.Cursor
			}
		}
	})
	parallel(writers, func(w int) {
		for i := range each {
			if _, err := f.Append(f.Context(), fmt.Appendf(nil, "%d.%d", w, i), time.Time{}); err != nil {
				f.Error(err)
				cancel()
				return
			}
		}
	})
	follower.Wait()
	all, _ := f.after("", 0)
	if len(all) != writers*each || strings.Join(all, " ") != strings.Join(seen, " ") {
		f.Fatalf("the follower saw %d entries in another order than the feed's %d", len(seen), len(all))
	}
	next := make([]int, writers)
	for _, v := range all {
		var w, i int
		if _, err := fmt.Sscanf(v, "%d.%d", &w, &i); err != nil || i != next[w] {
			f.Fatalf("entry %q of a writer came where its entry %d belongs", v, next[w])
		}
		next[w]++
	}
}

// feedTrimmed: the feed was set back (attack row 165). A follower that went on from its
// cursor would miss what is appended until the feed has grown to its old length, or what
// lies before its cursor now. It is told so, also when something was appended since, and
// reads from the beginning.
func feedTrimmed(f *fixture) {
	if f.suite.Trim == nil {
		f.Skip("no way to trim the feed")
	}
	f.append("a", f.in(time.Hour))
	f.append("b", time.Time{})
	middle := f.append("c", f.in(time.Hour))
	last := f.append("d", f.in(time.Hour))
	f.Store = f.suite.Trim(f.T, f.Store)
	for _, cursor := range []string{middle, last} {
		_, err := f.After(f.Context(), cursor, 0)
		f.is(err, store.ErrNotFound, "After with a cursor of a lost entry")
	}
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	f.append("e", f.in(time.Hour))
	if err := f.Wait(ctx, last); err != nil && ctx.Err() == nil {
		f.Fatalf("Wait with a cursor of a lost entry: %v", err)
	}
	_, err := f.After(f.Context(), last, 0)
	f.is(err, store.ErrNotFound, "After with a cursor of a lost entry, when others have come since")
	got, cursor := f.after("", 0)
	if strings.Join(got, "") != "e" {
		f.Fatalf("the reload gave %q", got)
	}
	f.append("f", time.Time{})
	if got, _ := f.after(cursor, 0); strings.Join(got, "") != "f" {
		f.Fatalf("after the reload: %q", got)
	}
}

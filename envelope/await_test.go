package envelope

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Row 157: an envelope whose master is away at the start seals and opens nothing, makes no second ring, and begins as soon as
// the master answers, by being followed.
func TestRow157LateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, master := new(memory), newFar(t, 1)
		sealed := seal(t, open(t, keys, "own", master), testLabel, []byte("before"))
		before := keys.snapshot()
		master.fail(ErrUnavailable)
		e, err := New(Config{Name: "own", Master: master, Store: keys})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "a start without the master", e.Start(t.Context()), ErrUnavailable)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go e.Follow(ctx)
		asked := master.called("unwrap")
		time.Sleep(10 * time.Minute)
		if n := master.called("unwrap") - asked; n < 30 || n > 45 {
			t.Errorf("in ten minutes the master was asked %d times", n)
		}
		_, err = e.Seal(t.Context(), testLabel, nil)
		refused(t, "sealing", err, ErrUnavailable)
		_, err = e.Open(t.Context(), testLabel, sealed)
		refused(t, "opening", err, ErrUnavailable)
		if len(e.Keys()) != 0 {
			t.Error("it has keys")
		}
		master.fail(nil)
		time.Sleep(longestPause + pollEvery)
		opens(t, e, sealed, "before")
		if _, err := e.Seal(t.Context(), testLabel, nil); err != nil {
			t.Error(err)
		}
		for key, record := range before {
			if string(record) != string(keys.snapshot()[key]) {
				t.Errorf("%s was changed", key)
			}
		}
		asked = master.called("unwrap")
		if err := e.Await(t.Context()); err != nil || master.called("unwrap") != asked {
			t.Errorf("what has begun asks again: %v", err)
		}
	})
}

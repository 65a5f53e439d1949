package bolt_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestWaitInABubble: a follower that waits costs no time and no processor, and is woken
// when the append is acknowledged, not a poll later.
func TestWaitInABubble(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, path, nil)
		woken := make(chan time.Time, 1)
		go func() {
			if err := s.Wait(t.Context(), ""); err != nil {
				t.Error(err)
			}
			woken <- time.Now()
		}()
		synctest.Wait() // it sleeps, and only the append below can wake it
		time.Sleep(3 * time.Second)
		select {
		case <-woken:
			t.Fatal("Wait returned although nothing was appended")
		default:
		}
		appended := time.Now()
		if _, err := s.Append(t.Context(), nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if late := (<-woken).Sub(appended); late != 0 {
			t.Errorf("woken %v after the append", late)
		}
	})
}

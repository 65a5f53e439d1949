package portal

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// A provider that ends everything of a person sends many notices at once: all are
// obeyed, and the newest mark stays.
func TestNoticesTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newRich("hospital", "Hospital"))
	const notices = 40
	var all sync.WaitGroup
	for i := range notices {
		all.Go(func() {
			ended := identity.Ended{Token: fmt.Sprint(i), Subject: "sub-1", Issued: w.start.Add(time.Duration(i-notices) * time.Second), Expires: w.start.Add(time.Minute)}
			if err := w.portal.mark(t.Context(), "hospital", ended); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	at, err := w.store.Get(t.Context(), markKey("hospital", "sub-1"))
	if want := fmt.Sprint(w.start.Add(-time.Second).Unix()); err != nil || string(at) != want {
		t.Errorf("%s, want %s, %v", at, want, err)
	}
}

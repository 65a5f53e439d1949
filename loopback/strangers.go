package loopback

import (
	"sync"
	"time"
)

// FloodAfter is how many refusals of callers without a credential are written down one by one in a FloodWindow.
const (
	FloodAfter  = 1000
	FloodWindow = 10 * time.Second
)

// Strangers counts the refusals of callers that showed no right credential. Any program of this host can have itself refused
// ten thousand times a second, each with a record of 270 bytes: two hundred gigabytes a day, and an audit log that takes nothing
// more closes every site. So beyond FloodAfter the rest of a window is one record with their number. What is not written singly
// opened nothing. The zero value is ready; callers with a credential are not counted here and are recorded each time.
type Strangers struct {
	mu    sync.Mutex // guards what follows
	began time.Time
	count int
}

// Refused counts one refusal: record says whether it gets a record of its own, ended how many had none in the window before.
func (s *Strangers) Refused(now time.Time) (record bool, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.began); age >= FloodWindow || age < 0 {
		ended = max(0, s.count-FloodAfter)
		s.began, s.count = now, 0
	}
	s.count++
	return s.count <= FloodAfter, ended
}

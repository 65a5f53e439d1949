package gate

import (
	"net/netip"
	"sync"
	"time"
)

// A stranger without a session gets one record for each refusal, 240 bytes. At the rate that one machine can ask, that is a
// hundred gigabytes a day, and a full disk closes the doors for everybody. So the refusals of strangers are recorded one by one
// up to floodAfter for an address and floodWindow, and the rest of the window as one record with their number. What is not
// written singly opened nothing. Refusals of people who are signed in, and everything that is let through, are never summed up.
const (
	floodWindow = 10 * time.Second
	floodAfter  = 1000 // records of one address (an IPv6 /64) in a window
	floodAddrs  = 4096 // addresses remembered in a window; the others share one count
)

// reasonFlood is the reason of a record that sums refusals up.
const reasonFlood = "flood"

// flood counts the refusals of strangers in the running window.
type flood struct {
	now func() time.Time

	mu     sync.Mutex // guards the fields below
	began  time.Time
	counts map[netip.Prefix]int
}

// summary is what an address did in a window beyond the records it got.
type summary struct {
	addr  netip.Prefix // zero: all who found no place in the table
	count int
}

// refused counts one refusal: record says whether it gets a record of its own, ended what is to be recorded of the window before.
func (f *flood) refused(client string) (record bool, ended []summary) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := now.Sub(f.began); f.counts == nil || age >= floodWindow || age < 0 {
		for addr, n := range f.counts {
			if n > floodAfter {
				ended = append(ended, summary{addr, n - floodAfter})
			}
		}
		f.began, f.counts = now, make(map[netip.Prefix]int)
	}
	key := floodKey(client)
	if _, known := f.counts[key]; !known && len(f.counts) >= floodAddrs {
		key = netip.Prefix{}
	}
	f.counts[key]++
	return f.counts[key] <= floodAfter, ended
}

// floodKey is what one stranger can change at will without another line: an IPv4 address, or an IPv6 /64.
func floodKey(client string) netip.Prefix {
	ip, err := netip.ParseAddr(client)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

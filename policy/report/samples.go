package report

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy/condition"
)

// sample is one way in which a request can be made.
type sample struct {
	addr   netip.Addr
	at     time.Time
	acr    string
	amr    []string
	age    time.Duration // since the sign-in
	signed bool          // when that was is known
	device bool
}

// String says it in words.
func (s sample) String() string {
	var parts []string
	if s.addr.IsValid() {
		parts = append(parts, "from "+s.addr.String())
	}
	if !s.at.Equal(someDay) {
		parts = append(parts, s.at.Format("on Mon 2006-01-02 15:04 MST"))
	}
	if s.acr != "" {
		parts = append(parts, "acr "+s.acr)
	}
	if len(s.amr) > 0 {
		parts = append(parts, "amr "+strings.Join(s.amr, ","))
	}
	if s.signed {
		parts = append(parts, "signed in "+shortTime(s.age)+" ago")
	}
	if s.device {
		parts = append(parts, "with a known device")
	}
	if len(parts) == 0 {
		return "from nowhere in particular"
	}
	return strings.Join(parts, ", ")
}

// simplest leaves out what it can without holds becoming false.
func (s sample) simplest(holds func(sample) bool) sample {
	for _, without := range []func(*sample){
		func(s *sample) { s.acr = "" }, func(s *sample) { s.amr = nil }, func(s *sample) { s.age, s.signed = 0, false },
		func(s *sample) { s.device = false }, func(s *sample) { s.addr = netip.Addr{} }, func(s *sample) { s.at = someDay },
	} {
		it := s
		if without(&it); holds(it) {
			s = it
		}
	}
	return s
}

// maxSamples bounds how many combinations are tried for one cell.
const maxSamples = 20_000

// samples are all combinations of the borders of all conditions of the sites.
func samples(sites ...*Site) []sample {
	addrs, times := []netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, []time.Time{someDay}
	signs := signs{acr: []string{""}, amr: [][]string{nil}, age: []sample{{}}}
	devices := []bool{false}
	for _, s := range sites {
		for _, l := range s.lines {
			for _, w := range l.conditions {
				switch w.key {
				case "network":
					addrs = append(addrs, s.borderAddrs(w.values)...)
				case "hours":
					times = append(times, borderTimes(w.values)...)
				case "acr", "amr", "max_age":
					signs.add(w)
				case "device":
					devices = []bool{false, true}
				}
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	slices.SortFunc(times, time.Time.Compare)
	times = slices.CompactFunc(times, time.Time.Equal)
	var all []sample
	for _, it := range signs.all() {
		for _, device := range devices {
			for _, at := range times {
				for _, addr := range addrs {
					it.at, it.addr, it.device = at, addr, device
					if all = append(all, it); len(all) == maxSamples {
						return all
					}
				}
			}
		}
	}
	return all
}

// someDay is a Wednesday at noon, UTC.
var someDay = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// borderAddrs are the first and the last address of each range and those beside it.
func (s *Site) borderAddrs(values []string) (addrs []netip.Addr) {
	for _, name := range strings.Split(strings.Join(values, ","), ",") {
		prefixes, named := s.network[name]
		if p, wrong := condition.ParseNetwork(name); wrong == "" && !named {
			prefixes = []netip.Prefix{p}
		}
		for _, p := range prefixes {
			last := lastAddr(p)
			addrs = append(addrs, p.Masked().Addr(), p.Masked().Addr().Prev(), last, last.Next())
		}
	}
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() })
}

// lastAddr is the last address of a range.
func lastAddr(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(bytes); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// borderTimes are the minutes at, before and after each end of each range on each day of one week.
func borderTimes(values []string) (times []time.Time) {
	zone, err := time.LoadLocation(values[len(values)-1])
	if err != nil {
		return nil
	}
	for _, clock := range strings.FieldsFunc(values[len(values)-2], func(r rune) bool { return r == ',' || r == '-' }) {
		at, err := time.Parse("15:04", clock)
		if err != nil && clock != "24:00" {
			continue
		}
		hour, minute := at.Hour(), at.Minute()
		for day := 22; day < 29; day++ {
			for _, by := range []time.Duration{-time.Minute, 0, time.Minute} {
				times = append(times, time.Date(2026, 11, day, hour, minute, 0, 0, zone).Add(by))
			}
		}
	}
	return times
}

// signs are what sign-ins can show: what conditions ask for, and what is just not that.
type signs struct {
	acr []string
	amr [][]string
	age []sample
}

func (l *signs) add(w words) {
	values := strings.Split(strings.Join(w.values, ","), ",")
	switch w.key {
	case "acr":
		l.acr = append(l.acr, values...)
	case "amr":
		l.amr = append(l.amr, values)
		for _, v := range values {
			l.amr = append(l.amr, []string{v})
		}
	case "max_age":
		if age, ok := parseAge(values[0]); ok {
			l.age = append(l.age, sample{signed: true, age: age}, sample{signed: true, age: age + time.Second})
		}
	}
}

// all are the combinations, those that show most first: a bound cuts the others.
func (l *signs) all() (all []sample) {
	slices.Sort(l.acr)
	l.acr = slices.Compact(l.acr)
	for _, age := range slices.Backward(l.age) {
		for _, amr := range slices.Backward(l.amr) {
			for _, acr := range slices.Backward(l.acr) {
				it := age
				it.acr, it.amr = acr, amr
				all = append(all, it)
			}
		}
	}
	return all
}

// parseAge reads 5m and 2d.
func parseAge(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		age, err := time.ParseDuration(days + "h")
		return 24 * age, err == nil
	}
	age, err := time.ParseDuration(text)
	return age, err == nil
}

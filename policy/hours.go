package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the same zones on every machine, also on one that has none
)

// hours are times of the day on days of the week, as a clock on the wall of one place shows them: where it is put back, the hour that
// comes twice counts twice, and where it is put forward, an hour that is left out does not come.
type hours struct {
	days   [7]bool // by time.Weekday
	ranges []minutes
	zone   *time.Location
	text   string
}

// minutes is a range of a day, its end not in it. An end that is not after the beginning is on the next day.
type minutes struct{ from, to int }

const minutesOfDay = 24 * 60

// cover reports whether a moment is within them; unknown is the answer for the zero Time. What goes over midnight belongs to
// the day on which it begins.
func (h *hours) cover(now time.Time, unknown bool) bool {
	if now.IsZero() {
		return unknown
	}
	now = now.In(h.zone)
	hour, minute, _ := now.Clock()
	at, today := 60*hour+minute, now.Weekday()
	yesterday := (today + 6) % 7
	for _, r := range h.ranges {
		switch {
		case r.from < r.to:
			if h.days[today] && r.from <= at && at < r.to {
				return true
			}
		case h.days[today] && at >= r.from, h.days[yesterday] && at < r.to:
			return true
		}
	}
	return false
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// hours reads [DAYS] HH:MM-HH:MM[,…] ZONE.
func (p *reader) hours() {
	h := &hours{days: [7]bool{true, true, true, true, true, true, true}}
	const write = "`hours mon-fri 07:00-19:00 Europe/Brussels`: days (left out: all), times, zone"
	start := len(p.words)
	line := p.words
	if len(p.words) > 0 && p.words[0] != "" && 'a' <= p.words[0][0]|0x20 && p.words[0][0]|0x20 <= 'z' {
		days, fault := readDays(p.listText())
		if fault != "" {
			p.wrong("hours", fault, write)
		}
		h.days = days
	}
	if len(p.words) == 0 || p.words[0] == "" || p.words[0][0] < '0' || p.words[0][0] > '9' {
		p.wrong("hours", "it names no times", write)
		return
	}
	for text := range strings.SplitSeq(p.listText(), ",") {
		r, fault := readMinutes(text)
		if fault != "" {
			p.wrong("hours", fault, write)
		} else if slices.Contains(h.ranges, r) {
			p.wrong("duplicate", fmt.Sprintf("it names %s twice", text), "it once")
		}
		h.ranges = append(h.ranges, r)
	}
	zone, fault := "", ""
	if len(p.words) > 0 && !strings.HasPrefix(p.words[0], "/") {
		zone = p.next()
	}
	if h.zone, fault = readZone(zone); fault != "" {
		p.wrong("hours", fault, "the zone after the times, such as `Europe/Brussels`: what the clock on that wall shows")
	}
	h.text = strings.Join(line[:start-len(p.words)], " ")
	if p.rule.hours != nil {
		p.again("hours", h.text, write)
	}
	p.rule.hours = h
}

// readDays reads mon-fri, sat,sun and the like.
func readDays(text string) (days [7]bool, fault string) {
	for part := range strings.SplitSeq(text, ",") {
		first, end, isRange := strings.Cut(part, "-")
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, end)
		if !isRange {
			to = from
		}
		if from < 0 || to < 0 {
			return days, fmt.Sprintf("%q is no day: they are mon, tue, wed, thu, fri, sat and sun", part)
		}
		for day := from; ; day = (day + 1) % 7 {
			if days[day] && day == from {
				return days, fmt.Sprintf("it names %s twice", weekdays[day])
			}
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, ""
}

// readMinutes reads 07:00-19:00.
func readMinutes(text string) (r minutes, fault string) {
	from, to, ok := strings.Cut(text, "-")
	r.from, r.to = readClock(from), readClock(to)
	switch {
	case !ok || r.from < 0 || r.to < 0 || r.from == minutesOfDay:
		return r, fmt.Sprintf("%q are no times of a day from 00:00 to 24:00", text)
	case r.from == r.to:
		return r, fmt.Sprintf("%q ends when it begins", text)
	}
	return r, ""
}

// readClock returns the minute of the day, -1 for what is none.
func readClock(text string) int {
	if len(text) != len("00:00") || text[2] != ':' {
		return -1
	}
	n := 0
	for _, i := range []int{0, 1, 3, 4} {
		if text[i] < '0' || text[i] > '9' {
			return -1
		}
		n = 10*n + int(text[i]-'0')
	}
	if n%100 > 59 || n > 2400 {
		return -1
	}
	return n/100*60 + n%100
}

// readZone finds a zone of the IANA database. "Local" would be another one on each machine.
func readZone(name string) (zone *time.Location, fault string) {
	if name == "" {
		return time.UTC, "it names no time zone"
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return time.UTC, fmt.Sprintf("%q is no time zone", name)
	}
	return zone, ""
}

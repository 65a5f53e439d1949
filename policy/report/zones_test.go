package report

import (
	"strings"
	"testing"
)

// Hours move to another time zone: less is open in the week of the samples and more in summer, so that it is no mere closing.
func TestHoursInAnotherZoneMayOpen(t *testing.T) {
	of := func(hours string) []*Site {
		return []*Site{hosted(t, []string{"a.test"}, append([]string{"allow", "any", "/p/**", "hours"}, strings.Fields(hours)...))}
	}
	for hours, opens := range map[string]bool{
		"mon-fri 09:00-18:00 UTC":             true, // 11 to 20 o'clock in Brussels in summer
		"mon-fri 07:00-18:30 Africa/Algiers":  true,
		"mon-fri 07:00-18:30 Europe/Brussels": false,
		"07:00-18:00 Europe/Brussels":         true, // at the weekend
		"mon-thu 07:00-19:00 Europe/Brussels": false,
	} {
		c := Compare(of("mon-fri 07:00-19:00 Europe/Brussels"), of(hours))
		if len(c.Changes) == 0 || c.Opens() != opens {
			t.Errorf("%s: %+v", hours, c.Changes)
		}
	}
}

package alarm

import (
	"strings"
	"testing"
)

// TestNobodyIsCalled: a username of somebody's own choice calls nobody in a chat, and an address stays one.
func TestNobodyIsCalled(t *testing.T) {
	for who, want := range map[string]string{
		"@all": "by all at", "@channel": "by channel at", "x @here y": "by x here y at", "@@everyone": "by everyone at", "<@U123>": "by U123 at", "-@all": "by -all at", "<!here>": "by here at",
		"dana@hospital.test": "by dana@hospital.test at", "zoë@x": "by zoë@x at",
	} {
		e := event()
		if e.Who = who; !strings.Contains(e.sentence(), want) {
			t.Errorf("%s: %q", who, e.sentence())
		}
	}
}

// TestGuessing: the sentence says where and how many, and names nobody.
func TestGuessing(t *testing.T) {
	e := Event{Kind: KindGuessing, Site: "app.test", Count: 51}
	if got := e.sentence(); got != "51 wrong passwords within a minute at app.test; somebody may be guessing." {
		t.Error(got)
	}
}

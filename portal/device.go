package portal

import (
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/session"
)

// maxAgent is how much of a User-Agent is looked at, in bytes. Browsers send
// less than 300.
const maxAgent = 512

// The words for what is not recognised. They are what a page says of a session
// of before there were devices, too.
const (
	otherBrowser = "another browser"
	otherSystem  = "another system"
)

// mark is a piece of text that a browser or a system puts into its User-Agent.
type mark struct{ text, word string }

// browserMarks are in the order in which they are looked for: nearly every
// browser also says that it is Chrome or Safari, so those come last.
var browserMarks = []mark{
	{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"Edge/", "Edge"},
	{"OPR/", "Opera"}, {"OPT/", "Opera"}, {"OPiOS/", "Opera"}, {"Opera/", "Opera"},
	{"SamsungBrowser/", "Samsung Internet"},
	{"Vivaldi/", "Vivaldi"},
	{"DuckDuckGo/", "DuckDuckGo"}, {"Ddg/", "DuckDuckGo"},
	{"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"},
	{"Trident/", "Internet Explorer"}, {"MSIE ", "Internet Explorer"},
	{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Chromium/", "Chrome"},
}

// systemMarks are in order too: Android says Linux, and Windows on telephones
// said Android.
var systemMarks = []mark{
	{"iPhone", "iPhone or iPad"}, {"iPad", "iPhone or iPad"}, {"iPod", "iPhone or iPad"},
	{"CriOS/", "iPhone or iPad"}, {"FxiOS/", "iPhone or iPad"}, {"EdgiOS/", "iPhone or iPad"}, {"OPiOS/", "iPhone or iPad"},
	{"Windows", "Windows"},
	{"Android", "Android"},
	{"CrOS", "ChromeOS"},
	{"Macintosh", "macOS"},
	{"Linux", "Linux"},
}

// platforms are the values of Sec-CH-UA-Platform (User-Agent Client Hints,
// section 3.6) that are believed before the User-Agent: Chrome on a tablet says
// Linux there when it asks for pages of a desktop.
var platforms = map[string]string{
	`"Android"`: "Android", `"Chrome OS"`: "ChromeOS", `"Chromium OS"`: "ChromeOS",
	`"Linux"`: "Linux", `"macOS"`: "macOS", `"Windows"`: "Windows",
}

// deviceOf says what a browser calls itself, in words of ours: people find
// their own devices by them. Nothing is decided by it, as everybody may call
// himself anything. No text of the request comes through: it would stand on a
// page and in the store.
func deviceOf(r *http.Request) session.Device {
	agent := single(r.Header["User-Agent"])
	if len(agent) > maxAgent {
		agent = agent[:maxAgent]
	}
	d := session.Device{Browser: firstMark(agent, browserMarks), System: firstMark(agent, systemMarks)}
	if d.Browser == "" && strings.Contains(agent, "Version/") && strings.Contains(agent, "Safari/") && !strings.Contains(agent, "Android") {
		d.Browser = "Safari"
	}
	if word := platforms[single(r.Header["Sec-Ch-Ua-Platform"])]; word != "" {
		d.System = word
	}
	if d.Browser == "Safari" && d.System == "macOS" {
		d.System = "Mac or iPad" // Safari says the same on both
	}
	if d.Browser == "" {
		d.Browser = otherBrowser
	}
	if d.System == "" {
		d.System = otherSystem
	}
	return d
}

// single is the value of a header that was sent once. No browser sends these
// twice.
func single(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

func firstMark(agent string, marks []mark) string {
	for _, m := range marks {
		if strings.Contains(agent, m.text) {
			return m.word
		}
	}
	return ""
}

// deviceName is a device in words that fit into a sentence: "End Firefox on
// Windows". A session of before there were devices has none.
func deviceName(d session.Device) string {
	browser, system := d.Browser, d.System
	if browser == "" {
		browser = otherBrowser
	}
	if system == "" {
		system = otherSystem
	}
	return browser + " on " + system
}

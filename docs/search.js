// How the site's search orders the pages that have all words: first those whose title and headings have most of them.
var Scorer = {
  score: ([page, , , , score]) => {
    const {alltitles, docnames, titles} = Search._index;
    const headings = Object.keys(alltitles).filter((title) => alltitles[title].some(([file]) => docnames[file] === page));
    const has = (text, word) => text.toLowerCase().includes(word.replace(/s$/, ""));
    const query = new URLSearchParams(location.search).get("q").toLowerCase();
    const words = query.split(/[\s-]+/);
    const title = titles[docnames.indexOf(page)];
    if (headings.some((heading) => heading.toLowerCase().includes(query))) score += 16;
    for (const word of words) {
      if (has(title, word)) score += 8;
      if (headings.some((heading) => has(heading, word))) score += 4;
    }
    return page === "changelog" || page === "contributing" ? score - 30 : score;
  },
  // The rest is as Sphinx has it.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

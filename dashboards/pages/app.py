"""The Streamlit script: navigation, and one place for a store that does not answer.

It lies here and not a folder up because Streamlit takes every file of a folder `pages` beside its
script for a page of its own.
"""

from __future__ import annotations

import streamlit as st

from dashboards.pages import cache, cost, live, pairs, sensitivity, timelines, why
from switokd.tracking.address import StoreError

# the room that Streamlit leaves above and beside a page is a table's worth on a laptop
ROOM = """<style>
[data-testid="stMainBlockContainer"] { padding: 4.25rem clamp(1rem, 4vw, 4rem) 3rem; }
</style>"""

st.set_page_config(page_title="SwitOKD", layout="wide")
st.html(ROOM)
page = st.navigation(
    [
        st.Page(pairs.page, title="Pairs", url_path="pairs", default=True),
        st.Page(timelines.page, title="Timelines", url_path="timelines"),
        st.Page(sensitivity.page, title="Sensitivity", url_path="sensitivity"),
        st.Page(cost.page, title="Cost", url_path="cost"),
        st.Page(why.page, title="Why", url_path="why"),
        st.Page(live.page, title="Live", url_path="live"),
    ],
    position="top",
)
try:
    page.run()
except StoreError as error:
    cache.clear()
    st.error(str(error), icon=":material/database_off:")
    st.button("Try again")

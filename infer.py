"""Run an exported model on pictures: a table and heat maps. Needs the `deploy` package and the exported files alone.

python infer.py --stats exported/bottle/stats --input_file PICTURE|FOLDER
"""

from deploy.command_line.script import run_script
from deploy.infer import main

if __name__ == "__main__":
    run_script(main)

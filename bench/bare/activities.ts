/** Activities that do nothing. */
export const bareActivities = {
  async create(id: string): Promise<string> {
    return id;
  },
  async updateOrder(id: string): Promise<string> {
    return id;
  },
};

export type BareActivities = typeof bareActivities;
